// The part of three.js that motion.html uses, as the global THREE. Bundled into md_jax/assets/three.js (see build.sh).
export {
  ACESFilmicToneMapping, Bone, BufferAttribute, BufferGeometry, Color, DirectionalLight, Fog, GridHelper, HemisphereLight,
  Matrix4, Mesh, MeshStandardMaterial, PCFShadowMap, PerspectiveCamera, PlaneGeometry, Quaternion, Scene, ShadowMaterial,
  Skeleton, SkinnedMesh, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
