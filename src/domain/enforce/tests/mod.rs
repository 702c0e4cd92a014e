mod barrier;
mod decide;
mod lease;
mod model;
mod property;
mod set;
