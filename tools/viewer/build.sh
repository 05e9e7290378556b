#!/bin/sh
# Rebuild md_jax/assets/three.js: npm install, then one bundle with three.js's licence (MIT) at its head.
set -eu
cd "$(dirname "$0")"
npm install --no-audit --no-fund
npx esbuild three.js --bundle --minify --format=iife --global-name=THREE --legal-comments=none \
  --banner:js="/*! three.js 0.187.0. $(cat node_modules/three/LICENSE) */" --outfile=../../md_jax/assets/three.js
