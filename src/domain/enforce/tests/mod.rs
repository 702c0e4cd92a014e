mod barrier;
mod decide;
mod lease;
mod property;
mod set;
