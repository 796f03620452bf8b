// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package textfile reads, watches and writes the line-based files of plug-ins: users, credentials, rules.
//
// A file is read whole and handed out line by line; blank lines and lines that begin with # are comments. Writing is
// atomic: another process sees the old file or the new one. The package logs nothing; a Watcher owns one goroutine.
package textfile

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode/utf8"
)

// MaxSize is the most bytes that a file may have: room for half a million users.
const MaxSize = 64 << 20

// A File is what was read: immutable.
type File struct {
	Path  string // as it was given
	Lines []string
	info  os.FileInfo // nil if there was no file
}

// Error is what is wrong with a file, with where and, in its text, what to do.
type Error struct {
	Path string
	Line int // from 1; 0 is the file as a whole
	Text string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Text)
}

// Read reads the file at path. It refuses what is larger than MaxSize and lines that are not UTF-8 or hold control
// characters other than tab.
func Read(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &Error{Path: path, Text: "it is a directory; name a file"}
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxSize {
		return nil, &Error{Path: path, Text: fmt.Sprintf("it is larger than %d bytes", MaxSize)}
	}
	file, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	file.info = info
	return file, nil
}

// Parse is Read for text that is in memory; path serves for messages. A byte order mark and carriage returns at line
// ends are dropped.
func Parse(path string, text []byte) (*File, error) {
	file := &File{Path: path}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if len(text) == 0 {
		return file, nil
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		file.Lines = append(file.Lines, line)
		if !utf8.ValidString(line) {
			return nil, &Error{path, len(file.Lines), "it is not UTF-8; save the file as UTF-8"}
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && control(r) }) {
			return nil, &Error{path, len(file.Lines), "it has a control character; remove it"}
		}
	}
	return file, nil
}

// New is an empty file that is not written yet.
func New(path string) *File { return &File{Path: path} }

// control reports whether r is a control character of ASCII or Latin-1.
func control(r rune) bool { return r < 0x20 || r >= 0x7F && r < 0xA0 }

// Printable reports whether s is UTF-8 without control characters.
func Printable(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, control) }

// Base is the last element of the path, as rules are named in logs.
func (f *File) Base() string { return filepath.Base(f.Path) }

// Comment reports whether a line says nothing: blank, or begins with #.
func Comment(line string) bool {
	return strings.HasPrefix(line, "#") || strings.TrimSpace(line) == ""
}

// ReadableByOthers reports whether users beside owner and group may read the file. Always false on Windows, whose files
// have no such bits.
func (f *File) ReadableByOthers() bool { return f.forOthers(0o004) }

// WritableByOthers is ReadableByOthers for changing it.
func (f *File) WritableByOthers() bool { return f.forOthers(0o002) }

func (f *File) forOthers(bit fs.FileMode) bool {
	return f.info != nil && runtime.GOOS != "windows" && f.info.Mode().Perm()&bit != 0
}
