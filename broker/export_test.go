// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

// Raced is raced, for the tests from outside.
const Raced = raced
