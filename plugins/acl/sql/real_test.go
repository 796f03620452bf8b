// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package sql

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/noctule/noctule/internal/testkit/servers"
	"github.com/noctule/noctule/plugin"
)

func TestPostgres(t *testing.T) {
	_, dsn := servers.Postgres(t)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	real(t, options("postgres", dsn), db)
}

func TestMariaDB(t *testing.T) {
	_, dsn := servers.MariaDB(t)
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	real(t, options("mysql", dsn), db)
}

// real asks a real database.
func real(t *testing.T, o Options, db *sql.DB) {
	run := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	run("CREATE TABLE mqtt_acl (id integer, username varchar(50), permission varchar(9), action varchar(9), topic varchar(99), qos varchar(9), retain varchar(9))")
	run(`INSERT INTO mqtt_acl VALUES (1, 'ann', 'deny', 'publish', 'a/no', NULL, NULL), (2, 'ann', 'allow', 'all', 'a/#', NULL, NULL),
		(3, 'ann', 'allow', 'publish', 'own/${clientid}', '0,1', 'no'), (4, 'ann', 'allow', 'subscribe', 'odd" "$SYS/#', NULL, NULL),
		(5, 'bad', 'allow', 'write', 'a', NULL, NULL), (6, 'root', 'allow', 'all', '#', NULL, NULL)`)
	o.Query = "SELECT permission, action, topic, qos, retain FROM mqtt_acl WHERE username = ${username} ORDER BY id"
	a := started(t, o)
	for _, c := range []struct {
		user   string
		action plugin.Action
		topic  string
		want   string
	}{
		{"ann", plugin.Publish, "a/x", "allow acl.sql:2"},
		{"ann", plugin.Publish, "a/no", "deny acl.sql:1"},
		{"ann", plugin.Subscribe, "a/#", "allow acl.sql:2"},
		{"ann", plugin.Receive, "a/x", "allow acl.sql:2"},
		{"ann", plugin.Publish, "own/7", "allow acl.sql:3"},
		{"ann", plugin.Publish, "own/8", "deny acl.sql: no rule allows it"},
		{"ann", plugin.Subscribe, "$SYS/#", "deny acl.sql: no rule allows it"}, // text of a row stays in its place
		{"ann", plugin.Receive, `odd" "$SYS/x`, "allow acl.sql:4"},
		{"bob", plugin.Publish, "a/x", "deny acl.sql: no rule allows it"},
		{"ann' OR '1'='1", plugin.Publish, "a/x", "deny acl.sql: no rule allows it"},
		{"root\x00", plugin.Publish, "a/x", "deny acl.sql: no rule allows it"},
		{"%", plugin.Publish, "a/x", "deny acl.sql: no rule allows it"},
		{"bad", plugin.Publish, "a", `error: acl.sql: row 1: action is "write"; it is publish, subscribe, both or all`},
	} {
		if got := ask(t, a, c.user, c.action, c.topic); got != c.want {
			t.Errorf("%q %v %s: %s, want %s", c.user, c.action, c.topic, got, c.want)
		}
	}
	run("CREATE TABLE acl_lines (username varchar(50), line varchar(99))")
	run("INSERT INTO acl_lines VALUES ('ann', 'allow publish x/#')")
	o.Query = "SELECT line AS rule FROM acl_lines WHERE username = ${username}"
	a = started(t, o)
	if got := ask(t, a, "ann", plugin.Publish, "x/y"); got != "allow acl.sql:1" {
		t.Error(got)
	}
	o.Query = "SELECT line FROM acl_lines WHERE username = ${username}"
	if got := ask(t, started(t, o), "ann", plugin.Publish, "x/y"); !strings.Contains(got, `the column "line" has no meaning`) {
		t.Error(got)
	}
	o.Query = "SELECT rule FROM nowhere WHERE username = ${username}"
	wrong, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := wrong.Start(t.Context(), host{}); err == nil || !strings.HasPrefix(err.Error(), "acl.sql: query: ") {
		t.Errorf("a query that the database does not understand: %v", err)
	}
}
