// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package loadtest loads any broker and judges what comes back: it is what `noctule bench` does.
//
// A run has four phases: connect, work, drain, leave. One loop (run.go) steers all of them and keeps the books; everything in them
// belongs to the goroutine that called Run. A driver plays the clients: on Linux the epoll generator of internal/load, which calls
// back on that same goroutine; elsewhere the client library, whose goroutines call back under the driver's lock. Every run is bounded in time, and in messages under way for each publisher.
//
// It knows nothing of flags and terminals.
package loadtest
