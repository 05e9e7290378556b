"""Two synchronous views in one clip: PCA of the split picture, a denoiser over frames."""
import sys, json, math, time, copy, argparse, os
os.chdir('/work/wt/v5'); sys.path.insert(0,'/work/wt/v5')
from pathlib import Path
import numpy as np, torch
from torch import nn
from tools import train_frames as tf, prior_text, prior_words
from tools.train_prior import make_scheduler, STEPS_OF_SCHEDULE
from bridge.priors.eigenframes import waves, FrameDenoiser
import torch.nn.functional as F

def split(data):
    p = tf.pixels_of(data); n,f,h,w,c = p.shape
    return p.reshape(n//2,2,f,h,w,c)
def rows(p, clip, frame):
    x = p[clip,:,frame]  # n,2,h,w,3
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0,4,2,1,3))).reshape(len(x),-1).float()/127.5-1  # c,h,(2 w)
def prepare(data, K):
    kept = data/f"two-{K}.pt"
    if kept.exists(): return torch.load(kept, weights_only=True)
    p = split(data); aside = np.load(data/"clips.npz")["held_out"][::2]
    rng = np.random.default_rng(0); train = np.flatnonzero(~aside)
    clip = np.sort(rng.choice(train, 10000)); frame = rng.integers(p.shape[2], size=10000)
    x = rows(p, clip, frame); mean = x.mean(0); x -= mean
    live = x.var(0) > 1e-6
    torch.manual_seed(0)
    print("live pixels", int(live.sum())//3, flush=True)
    _, dev, vec = torch.svd_lowrank(x[:, live], q=K+40, niter=2)
    total = x.square().sum(); dev=dev[:K]; 
    print("kept variance", float((dev**2).sum()/total), flush=True)
    dev = dev/math.sqrt(len(x)); basis = torch.zeros(K, x.shape[1]); basis[:, live] = vec[:, :K].T
    scale = dev.sqrt()*dev.mean().sqrt()
    z=[]
    for i in range(0,len(p),64):
        part = np.asarray(p[i:i+64]); n,_,f = part.shape[:3]
        r = torch.from_numpy(np.ascontiguousarray(part.transpose(0,2,5,3,1,4))).reshape(n*f,-1).float()/127.5-1
        z.append((((r-mean)@basis.T)/scale).view(n,f,K).half())
    z = torch.cat(z)
    # held-out kept variance
    i=np.flatnonzero(aside)[:300]; part=np.asarray(p[i]); r = torch.from_numpy(np.ascontiguousarray(part.transpose(0,2,5,3,1,4))).reshape(len(i)*p.shape[2],-1).float()/127.5-1-mean
    print("held-out kept", float(((r@basis.T).square().sum())/r.square().sum()), flush=True)
    state = dict(mean=mean,basis=basis,scale=scale,z=z)
    torch.save(state, kept); return state

class Layer(nn.Module):
    def __init__(s, D, heads, cond):
        super().__init__(); s.h=heads
        s.n1=nn.LayerNorm(D,elementwise_affine=False); s.n2=nn.LayerNorm(D,elementwise_affine=False)
        s.qkv=nn.Linear(D,3*D); s.o=nn.Linear(D,D); s.up=nn.Linear(D,4*D); s.down=nn.Linear(4*D,D); s.mod=nn.Linear(cond,6*D)
        nn.init.zeros_(s.mod.weight); nn.init.zeros_(s.mod.bias)
    def forward(s,x,c,drop=0.):
        a,b,g,d,e,h = s.mod(c)[:,None].chunk(6,-1)
        y=s.n1(x)*(1+a)+b; q,k,v=[t.unflatten(-1,(s.h,-1)).transpose(1,2) for t in s.qkv(y).chunk(3,-1)]
        y=F.scaled_dot_product_attention(q,k,v).transpose(1,2).flatten(2)
        x=x+(1+g)*s.o(y)
        y=s.n2(x)*(1+d)+e
        return x+(1+h)*s.down(F.dropout(F.gelu(s.up(y)),drop,s.training))
class Frames(nn.Module):
    def __init__(s, frames, K, D, depth, heads=4, cond=256, text=64, drop=0.):
        super().__init__(); s.drop=drop
        s.of_time=nn.Sequential(nn.Linear(64,cond),nn.SiLU(),nn.Linear(cond,cond))
        s.of_text=nn.Sequential(nn.LayerNorm(text),nn.Linear(text,cond),nn.SiLU(),nn.Linear(cond,cond))
        s.enter=nn.Linear(K,D); s.pos=nn.Parameter(torch.randn(frames,D)*.02)
        s.layers=nn.ModuleList(Layer(D,heads,cond) for _ in range(depth))
        s.norm=nn.LayerNorm(D); s.leave=nn.Linear(D,K); s.skip=nn.Linear(cond,K); nn.init.zeros_(s.leave.weight)
    def forward(s,z,times,hidden):  # z n F K
        c=F.silu(s.of_time(waves(times))+s.of_text(hidden[:,-1]))
        x=s.enter(z)+s.pos
        for l in s.layers: x=l(x,c,s.drop)
        return s.leave(s.norm(x))+s.skip(c)[:,None]*z
class Mlp(nn.Module):
    def __init__(s,frames,K,width,depth):
        super().__init__(); s.net=FrameDenoiser(frames,K,width,depth,condition=256,text=64)
    def forward(s,z,times,hidden):
        return s.net(z.transpose(1,2)[...,None,None],times,hidden).sample[...,0,0].transpose(1,2)
class Nets(nn.Module):
    def __init__(s,net,text): super().__init__(); s.net=net; s.text=text
    def forward(s,z,times,tok): return s.net(z,times,s.text(tok).last_hidden_state)
def text_encoder(tok):
    return tf.make_networks(tok,2,4,8,1).text_encoder
def make_net(a,frames,K):
    return Mlp(frames,K,a.width,a.depth) if a.kind=='mlp' else Frames(frames,K,a.width,a.depth,heads=max(4,a.width//64),drop=a.drop)

def captions(data):
    meta=json.loads((data/"meta.json").read_text())
    actions=prior_text.load_actions(Path("md_jax/assets/actions.json"),meta["actions"])
    tok=prior_text.make_tokenizer(actions,prior_words.WORDS,prior_words.LENGTH)
    return meta,actions,tok

def loss_of(nets,z,tok,t,noise,table,target_w=True):
    from bridge.distill import add_noise, alpha_sigma_from_table, timesteps
    al,si=alpha_sigma_from_table(t,table)
    al=al.view(-1,1,1); si=si.view(-1,1,1)
    guess=nets(al*z+si*noise,timesteps(t,STEPS_OF_SCHEDULE),tok)
    return ((al/si).square()+.5).clamp(max=5.).flatten()*(guess-z).square().flatten(1).mean(1)

def main():
    q=argparse.ArgumentParser(); q.add_argument('--data',default='/tmp/v6/data'); q.add_argument('--out'); q.add_argument('--kind',default='mlp')
    for n,d in dict(K=192,width=768,depth=4,batch=128,seed=0,threads=1,log=200).items(): q.add_argument('--'+n,type=int,default=d)
    for n,d in dict(lr=1e-3,decay=.05,ema=.999,minutes=10.,drop=0.).items(): q.add_argument('--'+n,type=float,default=d)
    a=q.parse_args(); torch.manual_seed(a.seed); torch.set_num_threads(a.threads)
    data,out=Path(a.data),Path(a.out); out.mkdir(exist_ok=True,parents=True)
    meta,actions,tok=captions(data); st=prepare(data,a.K); z=st['z']
    action,facts,aside=tf.facts_of(data)
    action,facts,aside=action[::2],[f._replace(azimuth=0.) for f in facts[::2]],aside[::2]
    # the camera pair needs no view phrase: strip it by writing captions whose azimuth phrase is dropped
    orig=prior_words.caption
    tokens=tf.draw_tokens(tok,actions,action,facts,6,a.seed,jittered=True)
    plain=tf.draw_tokens(tok,actions,action,facts,1,0,jittered=False)
    empty=torch.full((prior_words.LENGTH,),tok.pad_token_id,dtype=torch.int16); empty[:2]=torch.tensor(tok("").input_ids,dtype=torch.int16)
    tr,he=(torch.from_numpy(np.flatnonzero(x)) for x in (~aside,aside))
    nets=Nets(make_net(a,z.shape[1],a.K),text_encoder(tok)); avg=copy.deepcopy(nets).requires_grad_(False).eval()
    opt=torch.optim.AdamW(nets.parameters(),lr=a.lr,betas=(.9,.99),weight_decay=a.decay,fused=True)
    table=make_scheduler().alphas_cumprod; step=0; secs=0.; run=0.
    if (out/'state.pt').exists():
        s=torch.load(out/'state.pt',weights_only=True); nets.load_state_dict(s['nets']); avg.load_state_dict(s['avg']); opt.load_state_dict(s['opt']); step,secs=s['step'],s['secs']
    print(sum(p.numel() for p in nets.parameters()),len(tr),len(he),flush=True)
    def validate():
        g=torch.Generator().manual_seed(0); L=[]
        with torch.no_grad():
            for part in he[torch.randperm(len(he),generator=g)[:1024]].split(256):
                zz=z[part].float(); n=torch.randn(zz.shape,generator=g); L.append(loss_of(avg,zz,plain[part,0].long(),torch.linspace(.02,.98,len(part)),n,table))
        return float(torch.cat(L).mean())
    began=time.perf_counter()-secs; saved=secs
    while (done:=secs/60/a.minutes)<1:
        g=torch.Generator().manual_seed(a.seed*1000003+step)
        i=tr[torch.randint(len(tr),(a.batch,),generator=g)]; zz=z[i].float(); n=torch.randn(zz.shape,generator=g)
        t=(torch.rand(a.batch,generator=g)+torch.arange(a.batch))/a.batch
        w=tokens[i,torch.randint(6,(a.batch,),generator=g)]; w[torch.rand(a.batch,generator=g)<.1]=empty
        loss=loss_of(nets,zz,w.long(),t.clamp(1e-3,.999),n,table).mean(); loss.backward()
        nn.utils.clip_grad_norm_(nets.parameters(),1.)
        for gr in opt.param_groups: gr['lr']=a.lr*min(1,(step+1)/300)*(.02+.98*.5*(1+math.cos(math.pi*done)))
        opt.step(); opt.zero_grad(); d=min(a.ema,(1+step)/(10+step)); torch._foreach_lerp_(list(avg.parameters()),list(nets.parameters()),1-d)
        step+=1; secs=time.perf_counter()-began; run+=loss.item()
        if step%a.log==0:
            h=validate() if step%(5*a.log)==0 else 0
            print(f"step {step} loss {run/a.log:.4f} {secs/60:.2f} min"+(f" held {h:.4f}" if h else ""),flush=True); run=0.
        if secs-saved>180 or secs/60>=a.minutes:
            saved=secs; torch.save(dict(nets=nets.state_dict(),avg=avg.state_dict(),opt=opt.state_dict(),step=step,secs=secs,args=vars(a)),out/'part'); (out/'part').replace(out/'state.pt')
    print("done",step,validate(),flush=True)
if __name__=='__main__': main()
