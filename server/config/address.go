// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Address is a listener's address, taken apart.
type Address struct {
	Scheme  string // tcp, tls, ws, wss, unix; empty for one that takes whatever comes
	Network string // tcp or unix
	Host    string // name or IP address; empty for all
	Port    string
	Path    string // of a Unix socket
}

var schemes = []string{"tcp", "tls", "ws", "wss", "unix"}

// ParseAddress takes an address apart.
func ParseAddress(s string) (Address, error) {
	a := Address{Network: "tcp"}
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		a.Scheme, rest = scheme, after
	}
	switch a.Scheme {
	case "", "tcp", "tls", "ws", "wss":
	case "unix":
		a.Network, a.Path = "unix", rest
		if rest == "" {
			return a, &advice{"no path", "write unix:///run/noctule/mqtt.sock"}
		}
		return a, nil
	case "mqtt":
		return a, &advice{"mqtt:// is not known here", "write tcp://" + rest}
	case "mqtts", "ssl":
		return a, &advice{a.Scheme + ":// is not known here", "write tls://" + rest}
	default:
		return a, &advice{fmt.Sprintf("%q is not known here", a.Scheme+"://"), "write one of " + strings.Join(schemes, "://, ") + "://, or none"}
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		if a.Scheme == "ws" || a.Scheme == "wss" {
			return a, &advice{"a path is no part of the address", "write websocket.paths: [" + strconv.Quote(rest[i:]) + "]"}
		}
		return a, &advice{"a path is no part of the address", "write " + rest[:i]}
	}
	return a, a.split(rest)
}

// split takes host and port.
func (a *Address) split(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, number := strconv.ParseUint(s, 10, 16); number == nil {
			return &advice{"no host", "write 127.0.0.1:" + s + " or, for all addresses, :" + s}
		}
		if ip, ipErr := netip.ParseAddr(s); ipErr == nil && ip.Is6() {
			return &advice{"no port", "write [" + s + "]:1883"}
		}
		if strings.Count(s, ":") == 0 && s != "" {
			return &advice{"no port", "write " + s + ":1883"}
		}
		return &advice{fmt.Sprintf("%q is not a host and a port", s), "write 127.0.0.1:1883"}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return &advice{fmt.Sprintf("%q is not a port", port), "write a number up to 65535"}
	}
	if strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return &advice{fmt.Sprintf("%q is not a host", host), "write a name or an IP address"}
	}
	if host == "*" {
		return &advice{"* is not a host", "write :" + port + " for all addresses"}
	}
	a.Host, a.Port = host, strconv.FormatUint(n, 10)
	return nil
}

// Loopback says whether only this host can reach the address.
func (a Address) Loopback() bool {
	if a.Network == "unix" || a.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsLoopback()
}

// Secure says whether nobody can come in without TLS.
func (a Address) Secure() bool { return a.Scheme == "tls" || a.Scheme == "wss" }

// HostPort is the address as package net wants it, or the path of a Unix socket.
func (a Address) HostPort() string {
	if a.Network == "unix" {
		return a.Path
	}
	return net.JoinHostPort(a.Host, a.Port)
}

func checkListener(s string) error {
	_, err := ParseAddress(s)
	return err
}

func checkAdmin(s string) error {
	if s == "off" {
		return nil
	}
	if after, ok := strings.CutPrefix(s, "http://"); ok {
		return &advice{"a host and a port is wanted", "write " + strings.TrimSuffix(after, "/")}
	}
	a := Address{Network: "tcp"}
	return a.split(s)
}

func checkPrefix(s string) error {
	if _, err := parsePrefix(s); err != nil {
		return &advice{fmt.Sprintf("%q is not a range of addresses", s), "write 10.0.0.0/8 or a single address"}
	}
	return nil
}

func checkWebPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return &advice{fmt.Sprintf("%q is not a path", s), "write " + path.Join("/", s)}
	}
	return nil
}

func checkOrigin(s string) error {
	if s == "*" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return &advice{fmt.Sprintf("%q is not an origin", s), "write a scheme and a host such as https://app.example.org"}
	}
	if u.Path != "" {
		return &advice{"an origin does not end with /", "write " + u.Scheme + "://" + u.Host}
	}
	return nil
}

func checkPath(s string) error {
	if strings.ContainsRune(s, 0) {
		return &advice{"not a path", "remove the zero byte"}
	}
	return nil
}

func checkHost(s string) error {
	if s == "" || strings.ContainsAny(s, ":/ *") {
		return &advice{fmt.Sprintf("%q is not a host name", s), "write the name alone, such as noctule.example.org"}
	}
	return nil
}

func checkName(s string) error {
	if len(s) > 64 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return &advice{"not a name", "write at most 64 letters"}
	}
	return nil
}

func checkResponse(s string) error {
	if strings.ContainsAny(s, "+#\x00") {
		return &advice{"a topic name is wanted, without + and #", "write response/%c"}
	}
	return nil
}
