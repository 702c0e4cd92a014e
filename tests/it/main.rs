//! The one integration-test binary. `tests/run` sets up what it needs, such as the real Envoy, and runs it.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_served;
#[cfg(test)]
mod envoy;
#[cfg(test)]
mod envoy_route;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod gateway_envoy;
#[cfg(test)]
mod path;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod world;
