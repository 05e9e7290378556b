from exp import *
torch.set_num_threads(1)
prior=Prior('/tmp/v6/mlp'); body=Body()
action,facts,aside=tf.facts_of(Path('/tmp/v6/data')); judge=judges(['walking','running','jumping','punching'])
S=prior.scale
def fit2(zstar,steps,lr,power,blur=None,lam=0.):
    p=body.params; opt=optax.adam(optax.cosine_decay_schedule(lr,steps,.05),b2=.99); o=opt.init(p); w=(S/S.mean())**power
    for i in range(steps):
        z,back=body.z_and_back(p,prior); r=(z-zstar)*w
        u,o=opt.update(back(r/r.numel(),lam),o,p); p=optax.apply_updates(p,u)
    z,_=body.z_and_back(p,prior); return p,float((((z-zstar)*S)**2).sum()/((zstar*S)**2).sum())
for a in ['walking','running','jumping','punching']:
    i=np.flatnonzero((action[::2]==a)&aside[::2])[3]; z=prior.z[i].float()
    for steps,lr,power in ((200,.005,2),(200,.01,2),(200,.005,1)) if a=='walking' else ((200,.005,2),):
        p,err=fit2(z,steps,lr,power); m=judge[a](np.asarray(body.pose(p))); print(a,steps,lr,power,round(err,3),{k:round(v,2) for k,v in m.items()},flush=True)
