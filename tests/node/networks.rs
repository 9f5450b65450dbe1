//! What nodes are connected by: QUIC keeps the contract that other networks are held to.

use reknit::transport::Quic;

use super::support::run;

#[test]
fn quic_keeps_the_contract_of_networks() {
    run(reknit::testing::network_contract(&Quic, "127.0.0.1:0".parse().expect("an address")));
}
