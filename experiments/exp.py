import sys, json, math, time, argparse, os
sys.path.insert(0,'/tmp/v6'); from train2 import *
import jax, jax.numpy as jnp, optax
from md_jax import lbs, posefield, losses, measures
from md_jax.body import load_body
from md_jax.statistics import load_statistics
from bridge.camera import Camera
from bridge.mesh import make_mesh
from bridge.render import render
from tools.prior_judge import judges

class Prior:
    def __init__(s,out,data='/tmp/v6/data'):
        s.state=torch.load(out+'/state.pt',weights_only=True); a=argparse.Namespace(**s.state['args']); s.a=a
        s.meta,s.actions,s.tok=captions(Path(data)); st=prepare(Path(data),a.K)
        s.mean,s.basis,s.scale=st['mean'],st['basis'],st['scale']; s.z=st['z']
        s.nets=Nets(make_net(a,st['z'].shape[1],a.K),text_encoder(s.tok)); s.nets.load_state_dict(s.state['avg']); s.nets.eval().requires_grad_(False)
        s.table=make_scheduler().alphas_cumprod
        s.live=s.basis.abs().sum(0)>0; s.B=(s.basis[:,s.live]/s.scale[:,None]).T.contiguous()
    def ids(s,texts):
        e=torch.full((len(texts),prior_words.LENGTH),s.tok.pad_token_id)
        for i,r in enumerate(s.tok(texts,truncation=True,max_length=prior_words.LENGTH).input_ids): e[i,:len(r)]=torch.tensor(r)
        return e
    def encode(s,pics): # (2F,H,W,3) in [0,1], view-major
        F_=len(pics)//2; x=pics.view(2,F_,64,64,3).permute(1,4,2,0,3).reshape(F_,-1)*2-1
        return (x[:,s.live]-s.mean[s.live])@s.B
    def decode(s,z): 
        x=(z*s.scale@s.basis+s.mean).view(-1,3,64,128); return ((x+1)/2).clamp(0,1).permute(0,2,3,1)
    @torch.no_grad()
    def x0(s,z,t,texts,g):
        from bridge.distill import alpha_sigma_from_table, timesteps
        n=len(z); tt=torch.full((n,),float(t)); 
        if g==1: return s.nets(z,timesteps(tt,STEPS_OF_SCHEDULE),s.ids(texts))
        o=s.nets(torch.cat([z,z]),timesteps(tt.repeat(2),STEPS_OF_SCHEDULE),s.ids(list(texts)+['']*n)); c,u=o.chunk(2); return u+g*(c-u)
    def asig(s,t):
        from bridge.distill import alpha_sigma_from_table
        a,b=alpha_sigma_from_table(torch.tensor([float(t)]),s.table); return float(a),float(b)
    def sample(s,texts,seed,g=1.,steps=40):
        gen=torch.Generator().manual_seed(seed); z=torch.randn((len(texts),s.z.shape[1],s.a.K),generator=gen)
        ts=np.linspace(.98,.02,steps)
        for i,t in enumerate(ts):
            a,b=s.asig(t); x=s.x0(z,t,texts,g); e=(z-a*x)/b
            if i+1<steps: a,b=s.asig(ts[i+1]); z=a*x+b*e
        return x

class Body:
    def __init__(s,action='generic',M=1,seed=0):
        body=load_body('free'); s.baked=lbs.bake(body); h=np.asarray(body.v_template)[:,1]
        s.target=torch.tensor([0.,float(h.min()+h.max())/2,0.]); s.mesh=make_mesh(np.asarray(body.triangles),np.asarray(body.vertex_colors))
        st=load_statistics(action)
        s.fields,s.params=posefield.init_fields([st],jax.random.split(jax.random.key(seed),1),frames=12,root='height')
        def f(p):
            po=posefield.poses(s.fields,p); return lbs.pose(s.baked,po.body,po.root,po.transl)[0], losses.smoothness(posefield.apply_fields(s.fields,p))[0]
        s.f=jax.jit(f)
        def b(p,gv,lam): 
            _,v=jax.vjp(f,p); return v((gv,lam))[0]
        s.b=jax.jit(b); F_=12
        s.cam=Camera(torch.tensor([0.,math.pi/2]).repeat_interleave(F_),torch.full((2*F_,),math.radians(12.)),3.4,math.radians(40.),s.target)
        s.pose=jax.jit(lambda p: posefield.poses(s.fields,p).body[0])
    def z_and_back(s,p,prior):
        v,_=s.f(p); V=torch.from_numpy(np.array(v)).requires_grad_()
        z=prior.encode(render(V.repeat(2,1,1),s.cam,s.mesh,64,64,2,(.9,.9,.9)))
        def back(gz,lam=0.):
            gv,=torch.autograd.grad(z,V,gz); return s.b(p,jnp.asarray(gv.numpy()),jnp.float32(lam))
        return z.detach(),back

def fit(prior,body,zstar,steps=150,lr=.03,lam=0.,p=None):
    p=body.params if p is None else p; opt=optax.adam(optax.cosine_decay_schedule(lr,steps,.05),b2=.99); o=opt.init(p)
    for i in range(steps):
        z,back=body.z_and_back(p,prior); r=z-zstar; g=back(r/r.numel(),lam)
        u,o=opt.update(g,o,p); p=optax.apply_updates(p,u)
    z,_=body.z_and_back(p,prior)
    return p,float((z-zstar).square().mean()/zstar.square().mean())

def distil(prior,body,text,seed,steps=150,g=3.,lr=.03,hi=.98,lo=.02,noise='fixed',p=None,lam=0.,flat=False):
    p=body.params if p is None else p; opt=optax.adam(optax.cosine_decay_schedule(lr,steps,.1),b2=.99); o=opt.init(p)
    gen=torch.Generator().manual_seed(seed); fixed=torch.randn((1,12,prior.a.K),generator=gen)
    for i in range(steps):
        z,back=body.z_and_back(p,prior); t=hi+(lo-hi)*i/(steps-1) if not flat else lo+(hi-lo)*float(torch.rand((),generator=gen))
        a,b=prior.asig(t); e=fixed if noise=='fixed' else torch.randn((1,12,prior.a.K),generator=gen)
        x=prior.x0(a*z[None]+b*e,t,[text],g)[0]; r=z-x
        u,o=opt.update(back(r/r.numel(),lam),o,p); p=optax.apply_updates(p,u)
    return p
def sheet(prior,zs,file):
    from PIL import Image
    rows=[np.concatenate(list((prior.decode(z)*255).byte().numpy()),1) for z in zs]
    Image.fromarray(np.concatenate(rows,0)).save(file)
def pic(body,p,prior):
    v,_=body.f(p); V=torch.from_numpy(np.array(v))
    with torch.no_grad(): r=render(V.repeat(2,1,1),body.cam,body.mesh,64,64,2,(.9,.9,.9))
    return prior.encode(r), r.view(2,12,64,64,3).permute(1,2,0,3,4).reshape(12,64,128,3)
def rowpic(x): return np.concatenate(list((x*255).round().clamp(0,255).byte().numpy()),1)
