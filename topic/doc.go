// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package topic knows topic names, topic filters and share names, and finds
// what matches: the subscribers of a name (Index) and the names under a filter
// (Tree).
package topic
