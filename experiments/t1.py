from exp import *
from PIL import Image
torch.set_num_threads(1); torch.manual_seed(0)
out=sys.argv[1]; g=float(sys.argv[2]); acts=sys.argv[3].split(',')
prior=Prior(out); body=Body(); judge=judges(acts)
table={a:prior.actions[a]['phrase'] for a in acts}
rows=[]; imgs=[]
for a in acts:
    text=f"a person is {table[a]}"
    zs=prior.sample([text]*3,seed=1,g=g)
    for k in range(int(sys.argv[4])):
        t=time.time(); p,err=fit(prior,body,zs[k],steps=120); 
        m=judge[a](np.asarray(body.pose(p))); rows.append((a,'fit',err,m)); 
        imgs+= [rowpic(prior.decode(zs[k])), rowpic(pic(body,p,prior)[1])]
        print(a,'fit',round(err,3),{k:round(v,2) for k,v in m.items()},round(time.time()-t,1),flush=True)
    # real held-out clip fitted: what the fitter itself can do
    action,facts,aside=tf.facts_of(Path('/tmp/v6/data')); i=np.flatnonzero((action[::2]==a)&aside[::2])[3]
    p,err=fit(prior,body,prior.z[i].float(),steps=120); m=judge[a](np.asarray(body.pose(p))); print(a,'real fit',round(err,3),{k:round(v,2) for k,v in m.items()},flush=True)
    imgs+=[rowpic(prior.decode(prior.z[i].float())), rowpic(pic(body,p,prior)[1])]
Image.fromarray(np.concatenate(imgs,0)).save(out+'/fit.png')
