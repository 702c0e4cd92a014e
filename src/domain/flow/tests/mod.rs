mod authorities;
mod commands;
mod issuance;
mod keys;
mod nomination;
mod roots;
mod scenarios;
