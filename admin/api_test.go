// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/store"
)

func TestDrops(t *testing.T) {
	src := source(t)
	for _, name := range []string{"a/1", "a/2", "b"} {
		src.Broker.Drops().Note("queue_full", func() journal.Drop { return journal.Drop{Client: "c", Topic: name} })
	}
	for query, want := range map[string]string{
		"": "a/1 a/2 b", "?topic=a/%2B": "a/1 a/2", "?limit=1": "b", "?after=2": "b", "?client=d": "", "?cause=queue_full&client=c&since=1h": "a/1 a/2 b",
		"?since=2100-01-01T00:00:00Z": "",
	} {
		w := ask(src, nil, local, "localhost", "/api/v1/drops"+query)
		var p Page[journal.Drop]
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 || p.Meta.Count != len(p.Data) {
			t.Fatalf("%s: got %d %s, %v", query, w.Code, w.Body, err)
		}
		var names []string
		for _, d := range p.Data {
			names = append(names, d.Topic)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
		if want == "" && !strings.Contains(w.Body.String(), `"data":[]`) {
			t.Errorf("%s: an empty list is %s", query, w.Body)
		}
	}
	for _, query := range []string{"?topic=a%23", "?topic=%24share/g/a", "?since=soon", "?after=-1", "?limit=0", "?limit=10001", "?clients=c"} {
		w := ask(src, nil, local, "localhost", "/api/v1/drops"+query)
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 400 || p.Error == "" {
			t.Errorf("%s: got %d %s", query, w.Code, w.Body)
		}
	}
	if w := ask(src, nil, "192.0.2.1:5000", "127.0.0.1", "/api/v1/drops"); w.Code != 403 {
		t.Errorf("another host gets %d: topics and client identifiers are not for it", w.Code)
	}
}

func TestAlarms(t *testing.T) {
	watch := new(broker.StoreWatch)
	b, err := broker.New(broker.Options{Loops: 1, Watch: watch})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	src := source(t)
	src.Broker = b
	get := func(path string) string { return ask(src, nil, local, "localhost", path).Body.String() }
	if got := get("/api/v1/alarms"); !strings.HasPrefix(got, `{"data":[],"meta":{"count":0}}`) {
		t.Errorf("got %s", got)
	}
	watch.Notice(store.Notice{Kind: store.DiskFull, Text: "no space <left>"})
	watch.Notice(store.Notice{Kind: store.DiskFull, Text: "no space <left>"}) // said twice, ended once
	watch.Notice(store.Notice{Kind: store.TornTail, Text: "log/1"})
	watch.Notice(store.Notice{Kind: store.Damaged, Text: "state/1"})
	var p Page[broker.Alarm]
	if err := json.Unmarshal([]byte(get("/api/v1/alarms")), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Data) != 2 || p.Data[0].Name != "disk_full" || p.Data[0].Do == "" || time.Since(p.Data[0].Since) > time.Minute {
		t.Errorf("got %+v", p)
	}
	if page := get("/"); !strings.Contains(page, "alarm: disk_full") || !strings.Contains(page, "no space &lt;left&gt;") {
		t.Errorf("the status page lacks the alarm:\n%s", page)
	}
	metrics := get("/metrics")
	for _, want := range []string{"noctule_store_disk_full 1", "noctule_store_disk_slow 0", "noctule_store_disk_failed 0", "noctule_store_damaged_total 1",
		"noctule_store_torn_tails_total 1", `noctule_store_kept_messages_total{durability="sync"} 0`} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	watch.Notice(store.Notice{Kind: store.Room})
	if metrics := get("/metrics"); !strings.Contains(metrics, "\nnoctule_store_disk_full 0\n") {
		t.Error("the disk is still full")
	}
}
