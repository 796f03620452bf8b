// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package broker is the meeting place: it ties connections, sessions, the topic index, the store and the plug-ins
// together, and is the API for programs that embed a broker.
//
// Threads. There is one shard per loop, and everything in a shard belongs to that loop's goroutine: its connections, the
// client identifiers whose home it is (a hash of the identifier), its shared subscriptions, its fan-outs. A connection is accepted on any
// loop and moves home when its CONNECT is granted. Shards reach each other by tasks posted to loops, and share only what is safe for concurrent use: the topic index, the store,
// options (an atomic pointer), and counters.
//
// Goroutines of the store call back in commit order; those callbacks match the topic and post, nothing more.
//
// Invariants:
//   - An acknowledgement leaves after the store has called back, wherever the delivery needs the store.
//   - A client identifier has one holder at a time; the next claims only when the one before is wholly gone.
//   - A persistent session's deliveries of QoS 1 and 2 come from the store, in order of position, whether pushed or read.
//   - What a peer can fill has a limit in Limits and a counter.
package broker
