// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/store"
)

// aliveWithin is how long the loops may take to answer.
const aliveWithin = 2 * time.Second

// health says whether the process works: 200, or 503 where a loop does not answer.
func (src Source) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), aliveWithin)
	defer cancel()
	if src.Phase() < Stopped && !src.Alive(ctx) {
		http.Error(w, "a loop does not answer", http.StatusServiceUnavailable)
		return
	}
	plain(w, "ok\n")
}

// ready says whether clients are welcome: 200 while it serves, 503 before and after.
func (src Source) ready(w http.ResponseWriter, _ *http.Request) {
	if p := src.Phase(); p != Ready {
		http.Error(w, p.String(), http.StatusServiceUnavailable)
		return
	}
	plain(w, "ready\n")
}

func plain(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, s) // the client may have gone
}

var statusPage = template.Must(template.New("status").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Noctule</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 44rem; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: normal; color: #666 }
td { text-align: right; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ddd; padding: .3rem 0 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th { color: #999 } th, td { border-color: #333 } a { color: #8ab4f8 } }
</style>
<h1>Noctule {{.Version}}</h1>
<p>{{.Phase}}, up {{.Up}}</p>
<table>
{{range .Alarms}}<tr><th>alarm: {{.Name}}<td>{{.Text}}; {{.Do}}
{{end}}{{range .Listeners}}<tr><th>listener<td>{{.}}
{{end}}{{range .Rows}}<tr><th>{{.Name}}<td>{{.Value}}
{{end}}</table>
<p><a href="/metrics">metrics</a> · <a href="/healthz">health</a> · <a href="/readyz">readiness</a> · <a href="/debug/pprof/">profiles</a></p>
</html>
`))

type row struct {
	Name  string
	Value int64
}

// status is the page for people.
func (src Source) status(w http.ResponseWriter, _ *http.Request) {
	page := struct {
		Version, Phase, Up string
		Listeners          []string
		Alarms             []broker.Alarm
		Rows               []row
	}{Version: src.Version, Phase: src.Phase().String(), Up: time.Since(src.Started).Round(time.Second).String(), Listeners: src.Listeners(),
		Alarms: src.Broker.Alarms(), Rows: rows(src.Broker.Stats(), src.Broker.Store().Stats())}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	statusPage.Execute(w, page) //nolint:errcheck // the client may have gone
}

func rows(s broker.Stats, kept store.Stats) []row {
	return []row{
		{"clients connected", s.Connected},
		{"persistent sessions", int64(kept.Sessions)},
		{"subscriptions", s.Subscriptions},
		{"messages received", s.Counts[broker.PublishReceived]},
		{"messages sent", s.Counts[broker.PublishSent]},
		{"messages waiting in memory", s.Queued},
		{"messages stored", kept.Messages},
		{"retained messages", int64(kept.Retained)},
	}
}
