// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package limit holds the rules that bound what clients may use: whom a rule holds for, per what it counts, and the buckets and
// counts that are shared by all connections with the same key.
//
// A Set is a list of rules, made once and never changed; a reload makes another one, and rules that are the same in both keep their
// accounts. An Account is what one rule counts for one key (a client identifier, a user, an address, a listener, or the rule itself). Its
// buckets and counts are atomics: connections on any loop pay into them without a lock. A rule's map of accounts has a lock, which
// is taken when a connection comes and when it goes.
//
// The package reads no clock, starts no goroutine and logs nothing: the caller hands in the time, in Unix nanoseconds, as its loop has it.
package limit
