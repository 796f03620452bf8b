// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package redisserver

import (
	"strings"
	"testing"
)

// What is within bounds goes through, however it is cut; lengths out of bounds do not.
func TestGuard(t *testing.T) {
	for text, ok := range map[string]bool{
		"*3\r\n$3\r\nabc\r\n$-1\r\n$0\r\n\r\n": true, "%1\r\n+a\r\n:1\r\n_\r\n#t\r\n,1.5\r\n(12\r\n": true, "$4\r\n*9\r\n\r\n+OK\r\n": true,
		"+" + strings.Repeat("x", 1000) + "\r\n": true, "-ERR\r\n": true, "=5\r\ntxt:a\r\n>2\r\n~1\r\n": true, "*-1\r\n": true,
		"*4097\r\n": false, "%1000000000\r\n": false, "$1048577\r\n": false, "$99999999999999999999\r\n": false, "$?\r\n": false, "*-2\r\n": false, "* 1\r\n": false,
		"$3\r\nabc\r\n*1000000\r\n": false, "+" + strings.Repeat("x", maxLine+1): false, "HTTP/1.1 200 OK\r\n": false, "\r\n": false, "\n": false, "*1\n": false,
		strings.Repeat("*2\r\n:1\r\n", 8) + ":1\r\n": true, strings.Repeat("*2\r\n:1\r\n", 9): false, strings.Repeat("*1\r\n*0\r\n", 100): true,
		strings.Repeat("%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n", 100): true, "!1048577\r\n": false, "=1048577\r\n": false, "|1\r\n": false, ";4\r\n": false,
	} {
		for _, cut := range []int{1, 2, 3, 7, len(text)} {
			g, good := &guard{}, true
			for rest := text; rest != "" && good; {
				n := min(cut, len(rest))
				good = g.follow([]byte(rest[:n]))
				rest = rest[n:]
			}
			if good != ok {
				t.Errorf("%.40q in pieces of %d: %v", text, cut, good)
			}
		}
	}
}
