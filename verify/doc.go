// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package verify proves a broker's promise of durability by killing it: it starts the broker, lets clients publish, subscribe,
// retain, leave wills and come and go, kills it at a random instant, starts it again, and compares what the broker gave back with
// what it had acknowledged.
//
// The broker is any program that speaks MQTT 3.1.1 or 5.0 on a TCP port of this host; the package knows nothing of ours but the
// words of the protocol. It does not use package client either, because it has to know which acknowledgement came and which
// did not, and to keep packet identifiers over connections that were cut at any point.
//
// A run is a row of lives of the broker. In each life every actor (publisher, subscriber, retainer, prober, leaver, expirer, testator)
// has one goroutine, which owns the actor's state; it ends with the life, having read its connection to the end. What they did and
// saw goes into the ledger, under its lock, and the ledger's rules judge it: some at once, loss at the end. The rules read no clock,
// so that tests can give them made-up ledgers. What is judged is bounded by one rule: only what the standard demands of
// every broker counts as a violation; what was not acknowledged may have happened or not.
//
// Where the broker runs is a Host's business: the usual one starts a command, the simulation of internal/sim plays a broker in its own process.
//
// The ledger is compact: four bytes for each message published, one bit for each message and subscriber.
package verify
