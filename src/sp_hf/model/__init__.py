"""The model that is trained: an encoder, its objectives, and the teacher."""
