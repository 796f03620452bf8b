// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package transport

import "syscall"

func setNotSentLowat(syscall.RawConn, int) error { return nil }
