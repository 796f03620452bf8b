// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/noctule/noctule/broker/ban"
)

// KeyFile is the name of the file in the data directory that has the key for changes.
const KeyFile = "admin.key"

// mostBody is the most bytes of a request's body.
const mostBody = 256 << 10

// changes asks for the key. A page in a browser has none, nor has another user of this host.
func (src Source) changes(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case src.Key == "":
			write(w, http.StatusForbidden, Problem{"this broker has no data directory, so there is no key for changes"})
		case subtle.ConstantTimeCompare([]byte(given), []byte(src.Key)) != 1:
			write(w, http.StatusUnauthorized, Problem{"the key is missing or wrong; it is in " + KeyFile + " of the data directory"})
		default:
			next(w, r)
		}
	}
}

// bans lists the bans in force.
func (src Source) bans(w http.ResponseWriter, _ *http.Request) { page(w, src.Broker.Bans()) }

// NewBan is the body of a request for a ban.
type NewBan struct {
	Kind   ban.Kind  `json:"kind"`
	Value  string    `json:"value"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// ban keeps clients out.
func (src Source) ban(w http.ResponseWriter, r *http.Request) {
	var n NewBan
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		write(w, http.StatusBadRequest, Problem{"the body is no ban: kind, value, until and reason as JSON"})
		return
	}
	made, err := src.Broker.Ban(ban.Ban{Kind: n.Kind, Value: n.Value, Until: n.Until, Reason: n.Reason, By: "operator"})
	if err != nil {
		write(w, http.StatusUnprocessableEntity, Problem{err.Error()})
		return
	}
	write(w, http.StatusOK, made)
}

// unban lifts the ban that the parameters kind and value name.
func (src Source) unban(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	was, err := src.Broker.Unban(ban.Kind(q.Get("kind")), q.Get("value"))
	switch {
	case err != nil:
		write(w, http.StatusUnprocessableEntity, Problem{err.Error()})
	case !was:
		write(w, http.StatusNotFound, Problem{"there is no such ban"})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
