// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"strings"
	"testing"
)

func TestValidText(t *testing.T) {
	for _, s := range []string{"", "a", "\x01\x1F\x7F", "\u0080", "\uFEFF", "\uFFFF", "\uD7FF\uE000", "\U0010FFFF", "a+#$",
		strings.Repeat("x", MaxString)} {
		if !ValidText([]byte(s)) {
			t.Errorf("%.40q is refused", s)
		}
	}
	for _, s := range []string{"\x00", "abcdefgh\x00", "ü\x00", "\x80", "abcdefghijkl\xFF", "\xC0\x80", "\xED\xA0\x80",
		"\xED\xBF\xBF", "\xF4\x90\x80\x80", "\xE2\x82", strings.Repeat("x", MaxString+1)} {
		if ValidText([]byte(s)) {
			t.Errorf("%.40q is accepted", s)
		}
	}
	for n := range 64 { // a bad byte anywhere
		for at := range n {
			for _, bad := range []byte{0, 0x80, 0xFF} {
				b := bytes.Repeat([]byte("x"), n)
				b[at] = bad
				if ValidText(b) || ValidTopicName(b) {
					t.Errorf("%q is accepted", b)
				}
			}
		}
	}
}

func TestValidTopicName(t *testing.T) {
	for _, s := range []string{"a", "/", "a//b", " ", "$SYS/x", "ü/ß", strings.Repeat("x", MaxString)} {
		if !ValidTopicName([]byte(s)) {
			t.Errorf("%.40q is refused", s)
		}
	}
	for _, s := range []string{"", "+", "#", "a/+/b", "a/#", "a\x00", strings.Repeat("x", MaxString+1)} {
		if ValidTopicName([]byte(s)) {
			t.Errorf("%.40q is accepted", s)
		}
	}
}
