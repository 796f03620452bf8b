// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// mostInFile is how many bytes a value read from a file may have.
const mostInFile = 64 << 10

// lookup finds what values refer to.
type lookup struct {
	env  func(name string) (string, bool)
	file func(path string) ([]byte, error)
	keep bool // ${name} stays as it is: options of plug-ins have templates of their own
}

// readSmall reads a file of at most mostInFile bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, mostInFile+1))
	if err == nil && len(b) > mostInFile {
		err = fmt.Errorf("%s: larger than %s", path, FormatSize(mostInFile))
	}
	return b, err
}

// value reads a file that holds one value: the line end at its end does not belong to it.
func (l lookup) value(path string) (string, error) {
	b, err := l.file(path)
	if err != nil {
		return "", err
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	return string(bytes.TrimSuffix(b, []byte("\r"))), nil
}

// expand replaces ${env:NAME} and ${file:PATH}. What they stand for is taken literally; $${ stands for ${, but stays where templates do: it
// is theirs to read.
func (l lookup) expand(s string) (string, error) {
	if l.env == nil {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1])
			if l.keep {
				b.WriteString("$")
			}
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		ref, rest, ok := strings.Cut(s[i+2:], "}")
		if !ok {
			return "", &advice{"${ without }", "write $${ for the two characters themselves"}
		}
		if l.keep && !strings.Contains(ref, ":") {
			b.WriteString("${" + ref + "}")
			s = rest
			continue
		}
		value, err := l.refer(ref)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		s = rest
	}
}

func (l lookup) refer(ref string) (string, error) {
	kind, name, _ := strings.Cut(ref, ":")
	switch {
	case name == "":
	case kind == "env":
		if v, ok := l.env(name); ok {
			return v, nil
		}
		return "", &advice{"the environment has no variable " + name, "set it, or write the value here"}
	case kind == "file":
		v, err := l.value(name)
		if err != nil {
			return "", &advice{err.Error(), "name a file that can be read"}
		}
		return v, nil
	}
	return "", &advice{fmt.Sprintf("${%s} is not understood", ref), "write ${env:NAME} or ${file:PATH}"}
}
