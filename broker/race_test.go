// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package broker

// raced: the race detector makes sync.Pool forget at random, so allocations say nothing.
const raced = true
