// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package wal

func diskFull(error) bool { return false }
