// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/topic"
)

// Page is the shape of every list of the API.
type Page[T any] struct {
	Data []T  `json:"data"`
	Meta Meta `json:"meta"`
}

// Meta says how much a Page has.
type Meta struct {
	Count int `json:"count"`
}

// Problem is the body of an answer that is not 200.
type Problem struct {
	Error string `json:"error"`
}

func page[T any](w http.ResponseWriter, data []T) {
	if data == nil {
		data = []T{}
	}
	write(w, http.StatusOK, Page[T]{data, Meta{len(data)}})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client may have gone
}

// alarms lists what an operator has to look at now.
func (src Source) alarms(w http.ResponseWriter, _ *http.Request) { page(w, src.Broker.Alarms()) }

// mostDrops is how many entries one answer has.
const mostDrops = journal.Most

// drops lists messages of QoS 1 and 2 that were dropped since the start, the oldest first.
func (src Source) drops(w http.ResponseWriter, r *http.Request) {
	q, problem := dropQuery(r.URL.Query(), time.Now())
	if problem != "" {
		write(w, http.StatusBadRequest, Problem{problem})
		return
	}
	page(w, src.Broker.Drops().Drops(q))
}

// dropQuery reads the parameters client, topic (a filter), cause, since (a time, or how long ago), after (a seq) and limit.
func dropQuery(v url.Values, now time.Time) (q journal.Query, problem string) {
	q = journal.Query{Client: v.Get("client"), Topic: v.Get("topic"), Cause: v.Get("cause"), Limit: mostDrops}
	var err error
	for name := range v {
		value := v.Get(name)
		switch name {
		case "client", "cause":
		case "topic":
			if f, err := topic.ParseFilter(value, 0); err != nil || f.Share != "" {
				return q, "topic: " + strconv.Quote(value) + " is not a topic filter"
			}
		case "since":
			if q.Since, err = ParseSince(value, now); err != nil {
				return q, "since: " + err.Error()
			}
		case "after":
			if q.After, err = strconv.ParseUint(value, 10, 64); err != nil {
				return q, "after: " + strconv.Quote(value) + " is not a number"
			}
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > mostDrops {
				return q, "limit: write a number from 1 to " + strconv.Itoa(mostDrops)
			}
		default:
			return q, strconv.Quote(name) + " is not known; there is client, topic, cause, since, after and limit"
		}
	}
	return q, ""
}

// ParseSince reads a time as RFC 3339 has it, or how long ago it was: 10m.
func ParseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, &sinceError{s}
	}
	return t, nil
}

// sinceError is a time that is none.
type sinceError struct{ s string }

func (e *sinceError) Error() string {
	return strconv.Quote(e.s) + " is no time; write one such as 10m or 2026-01-02T15:04:05Z"
}
