// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package transporttest

const raceDetector = true
