// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/lmittmann/tint"
)

// newLogger makes the logger. Every handler quotes values that hold control characters, so that no client can forge a line; tint
// lets escape sequences through, which noEscapes prevents.
func newLogger(w io.Writer, format string, level slog.Leveler, terminal bool) *slog.Logger {
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	case terminal:
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, ReplaceAttr: noEscapes}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// levelOf reads a level as the configuration has it.
func levelOf(s string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return slog.LevelInfo // the configuration allows no other words
	}
	return l
}

// noEscapes shows the escape character by its symbol; written as \x1b tint would make it one again.
func noEscapes(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString, slog.KindAny:
		if a.Key == slog.LevelKey {
			return a // not text, and tint colours it
		}
		if s := a.Value.String(); strings.ContainsRune(s, 0x1b) {
			a.Value = slog.StringValue(strings.ReplaceAll(s, "\x1b", "␛"))
		}
	}
	return a
}
