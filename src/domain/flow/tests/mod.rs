mod authorities;
mod commands;
mod issuance;
mod nomination;
mod scenarios;
