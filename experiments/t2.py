from exp import *
torch.set_num_threads(1)
prior=Prior('/tmp/v6/mlp'); body=Body()
action,facts,aside=tf.facts_of(Path('/tmp/v6/data')); i=np.flatnonzero((action[::2]=='walking')&aside[::2])[3]
z=prior.z[i].float(); z0,_=body.z_and_back(body.params,prior)
print('start err', float((z0-z).square().mean()/z.square().mean()), float(z.square().mean()), float(z0.square().mean()),flush=True)
# finite difference check of the encode: stored latents of a real window rendered again?
w=np.load('/tmp/v6/data/windows.npz'); 
v=jax.jit(lambda *p: lbs.pose(body.baked,*p))(w['body_pose'][i],w['root_orient'][i],w['transl'][i]); V=torch.from_numpy(np.array(v))
with torch.no_grad(): zr=prior.encode(render(V.repeat(2,1,1),body.cam,body.mesh,64,64,2,(.9,.9,.9)))
print('re-render err', float((zr-z).square().mean()/z.square().mean()),flush=True)
for lr in (.003,.001): print(lr, fit(prior,body,z,steps=100,lr=lr)[1],flush=True)
