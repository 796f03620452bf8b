// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package load is the load generator of the benchmarks in bench/ and of `noctule bench`: one goroutine on one epoll set plays
// all clients and counts what comes back. It speaks as much MQTT as that takes, with a codec of its own, so that it is light (it
// shares the machine with the broker) and so that a fault of the broker's codec cannot hide behind the same one.
//
// Run, Fill, Drain and Idle are the scenarios of bench/, in MQTT 3.1.1. A Swarm is clients that its owner steers, in any version.
//
// A flow is a publisher and its receivers. It keeps a window of messages under way: a message is done when all receivers have it and,
// above QoS 0, its publisher has the last acknowledgement. Every payload begins with the flow's number and a sequence
// number; receivers tell from them what was lost, came twice, or came out of order.
//
// TLS is crypto/tls on gates in memory; its handshakes are coroutines of that goroutine. Where messages fall due at a rate, latencies count
// from then, so a broker that stalls pays for all that fell due meanwhile.
//
// Each iteration reads every ready socket once, tops up the windows, and writes each touched connection once. Nothing is
// allocated while it runs, but by TLS. Everything belongs to the goroutine that called Run or made the Idle; every run is bounded in time and in
// messages under way. Linux only.
package load
