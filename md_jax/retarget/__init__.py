"""A motion on another character: an animation added to a rigged .glb or .vrm that somebody else made."""
