export { angles, RAW, rotation, UNROTATED, type Angles, type Rotation } from "../rotation.ts";
