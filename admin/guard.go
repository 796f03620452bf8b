// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard answers only requests that name this server in a way that a foreign page cannot: a page may have its own name point
// to us (DNS rebinding), but it cannot be called localhost, nor by an IP address, nor by a name that our owner listed.
// Requests that a page of another origin makes are refused too.
func guard(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !knownHost(r.Host, hosts) {
			http.Error(w, "this server is not called that; use its IP address, or list the name in admin.hosts", http.StatusMisdirectedRequest)
			return
		}
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			http.Error(w, "not for other pages", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost judges a Host header.
func knownHost(host string, hosts []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && slices.ContainsFunc(hosts, func(s string) bool { return strings.EqualFold(s, name) })
}

// localOnly keeps a page to this host.
func localOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !a.Addr().Unmap().IsLoopback() {
			http.Error(w, "this page is for this host only", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}
