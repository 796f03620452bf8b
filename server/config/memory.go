// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Memory is what memory.limit says: Bytes, or a Share of what the process may use; neither means off.
type Memory struct {
	Bytes int64
	Share float64 // above 0, at most 1
}

// AutoShare leaves room for what is not counted: buffers of sockets, which are the control group's too, and other programs.
const AutoShare = 0.7

// leastMemory is what a broker needs to be of use.
const leastMemory = 32 << 20

// ParseMemory reads auto, off, a size or a share in percent.
func ParseMemory(s string) (Memory, error) {
	switch s {
	case "auto":
		return Memory{Share: AutoShare}, nil
	case "off":
		return Memory{}, nil
	}
	if digits, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil || !(n >= 1 && n <= 100) {
			return Memory{}, &advice{fmt.Sprintf("%q is not a share", s), "write one from 1% to 100%"}
		}
		return Memory{Share: n / 100}, nil
	}
	n, err := ParseSize(s)
	switch {
	case err != nil:
		return Memory{}, &advice{err.Error(), "write auto, off, a share such as 50%, or a size such as 2GiB"}
	case n < leastMemory:
		return Memory{}, &advice{s + " is too small", "write at least " + FormatSize(leastMemory)}
	}
	return Memory{Bytes: n}, nil
}

func checkMemory(s string) error {
	_, err := ParseMemory(s)
	return err
}
