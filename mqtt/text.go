// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"bytes"
	"unicode/utf8"
)

// MaxString is the largest size of a string, topic name, topic filter or binary field, in bytes.
const MaxString = 65535

// ValidText reports whether b may be sent as a UTF-8 encoded string: well-formed, without surrogates and U+0000, at most
// MaxString bytes [MQTT-1.5.4-1], [MQTT-1.5.4-2]. Other control characters and U+FEFF are characters like any other.
func ValidText(b []byte) bool {
	return len(b) <= MaxString && utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// ValidTopicName reports whether b may be sent as a topic name: valid text of at least one byte without wildcards
// [MQTT-4.7.1-1] (3.1.1), [MQTT-4.7.0-1] (5.0), [MQTT-4.7.3-1].
func ValidTopicName(b []byte) bool {
	return len(b) > 0 && ValidText(b) && !hasWildcard(b)
}

func hasWildcard(b []byte) bool {
	return bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0
}
