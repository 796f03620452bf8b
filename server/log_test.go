// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLogsQuoteControlCharacters has a client try to forge a line, in every format.
func TestLogsQuoteControlCharacters(t *testing.T) {
	evil := "x\r\nlevel=ERROR msg=forged\x1b[2J\x00\u009b31m\u2028y"
	for _, f := range []struct {
		format   string
		terminal bool
	}{{"text", false}, {"text", true}, {"json", false}} {
		var b bytes.Buffer
		log := newLogger(&b, f.format, slog.LevelInfo, f.terminal)
		log.Info("hello", "client", evil, slog.Group("g", "err", evil), "any", []string{evil})
		out := b.String()
		if strings.Count(out, "\n") != 1 {
			t.Errorf("%+v: more than one line: %q", f, out)
		}
		if f.terminal { // the handler's own colours
			for _, colour := range []string{"\x1b[0m", "\x1b[2m", "\x1b[22m", "\x1b[92m", "\x1b[91m", "\x1b[2;91m", "\x1b[22;2m"} {
				out = strings.ReplaceAll(out, colour, "")
			}
		}
		if strings.ContainsAny(strings.TrimSuffix(out, "\n"), "\r\n\x00\x1b") {
			t.Errorf("%+v: control characters: %q", f, out)
		}
	}
}
