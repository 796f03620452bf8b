// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package topic knows topic names, topic filters and share names, and finds
// what matches: Index the subscribers of a name, Tree the names under a filter.
//
// The package is pure: it starts no goroutine, reads no clock and logs nothing.
// That names and filters are UTF-8 without U+0000 is checked by the packet
// decoder; bytes are compared as they are, without any normalisation
// [MQTT-4.7.3-4]. How many levels a filter may have is the caller's to limit
// (see ParseFilter); nothing here recurses over levels.
//
// An Index may be used by any number of goroutines: readers take no lock, and
// writers lock a shard or the trie. A Tree is changed by one goroutine at a time
// and read by any number meanwhile it is not.
//
// Filters given to Index, Tree and Match are valid and without share name: the
// Filter field of what ParseFilter returned. An Index keeps their strings; a Tree
// keeps no string it is given.
package topic
