mod causes;
mod codec;
mod cutoffs;
mod genesis;
mod ordinals;
mod restored;
mod signatures;
