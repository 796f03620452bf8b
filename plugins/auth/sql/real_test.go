// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package sql

import (
	"database/sql"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/testkit/servers"
	"github.com/noctule/noctule/plugin"
)

const fullQuery = "SELECT password_hash, groups, superuser, rules, site FROM mqtt_user WHERE username = ${username}"

func TestPostgres(t *testing.T) {
	s, dsn := servers.Postgres(t)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`CREATE TABLE mqtt_user (username text PRIMARY KEY, password_hash text, groups text[], superuser boolean, rules text, site text, device integer)`)
	if err != nil {
		t.Fatal(err)
	}
	insert := func(name, pw, groups string, super bool) {
		t.Helper()
		if _, err := db.Exec("INSERT INTO mqtt_user VALUES ($1, $2, $3, $4, $5, $6, 7)", name, cheap(pw), groups, super, "topic read a/#", "north"); err != nil {
			t.Fatal(err)
		}
	}
	insert("ann", "wonder", "{ops,dev}", false)
	insert("root", "toor", "{}", true)
	insert("o'brien", "x", "{}", false)
	real(t, plain("postgres", dsn), db)
	// An argument of another type, and one that does not fit.
	o := plain("postgres", dsn)
	o.Query, o.Remote.MaxFailures = "SELECT password_hash FROM mqtt_user WHERE username = ${username} AND device = ${clientid}::int", 1
	a := started(t, o)
	l := login("ann", "wonder")
	for range 5 { // the client's fault does not count against the database
		want(t, a, l, plugin.Deny)
	}
	l.Client.ID = "7"
	want(t, a, l, plugin.Allow)
	away(t, s, plain("postgres", dsn))
}

func TestMariaDB(t *testing.T) {
	s, dsn := servers.MariaDB(t)
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		"CREATE TABLE mqtt_user (username varchar(255) COLLATE utf8mb4_bin PRIMARY KEY, password_hash varchar(255), `groups` varchar(255), superuser bit, rules text, site varchar(255))",
		"INSERT INTO mqtt_user VALUES ('ann', '" + cheap("wonder") + "', 'ops,dev', 0, 'topic read a/#', 'north'), ('root', '" + cheap("toor") + "', '', 1, 'topic read a/#', 'north'), ('o''brien', '" + cheap("x") + "', '', 0, 'topic read a/#', 'north')",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	o := plain("mysql", dsn)
	real(t, o, db)
	away(t, s, plain("mysql", dsn))
}

// real is what holds for each database.
func real(t *testing.T, o Options, db *sql.DB) {
	o.Query = strings.Replace(fullQuery, "groups", map[string]string{"mysql": "`groups`", "postgres": "groups"}[o.Driver], 1)
	a := started(t, o)
	id := want(t, a, login("ann", "wonder"), plugin.Allow)
	if !reflect.DeepEqual(id.Groups, []string{"ops", "dev"}) || !reflect.DeepEqual(id.Grant.Rules, []string{"topic read a/#"}) || id.Grant.Claims["site"] != "north" {
		t.Errorf("%+v, %+v", id, id.Grant)
	}
	if id = want(t, a, login("root", "toor"), plugin.Allow); id.Groups[0] != "superuser" || len(id.Grant.Rules) != 3 {
		t.Errorf("%+v, %+v", id, id.Grant)
	}
	want(t, a, login("o'brien", "x"), plugin.Allow)
	want(t, a, login("ann", "wonde"), plugin.Deny)
	want(t, a, login("bob", "wonder"), plugin.Deny)
	for _, name := range []string{"' OR '1'='1", "ann' --", "ann'; DROP TABLE mqtt_user; --", `\' OR 1=1 #`, "%", "_nn", "ann\u0000", "", strings.Repeat("x", 60000)} {
		want(t, a, login(name, "wonder"), plugin.Deny)
	}
	var n int
	if err := db.QueryRow("SELECT count(*) FROM mqtt_user").Scan(&n); err != nil || n != 3 {
		t.Errorf("%d users are left, %v", n, err)
	}
	// Many at once share the pool.
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { want(t, a, login("ann", "wonder"), plugin.Allow) })
	}
	all.Wait()
	if st := a.db.Stats(); st.MaxOpenConnections != o.Remote.Parallel || st.OpenConnections > o.Remote.Parallel {
		t.Errorf("%+v", st)
	}
	// What finds several, and what is no query.
	o.Query = "SELECT password_hash FROM mqtt_user WHERE ${username} = ${username}"
	if o.Driver == "postgres" {
		o.Query = "SELECT password_hash FROM mqtt_user WHERE ${username}::text = ${username}::text"
	}
	if d, _, err := started(t, o).Authenticate(t.Context(), login("ann", "wonder")); err == nil || d.Verdict == plugin.Allow || !strings.Contains(err.Error(), "several") {
		t.Errorf("%v, %v", d, err)
	}
	for _, q := range []string{"SELEC password_hash FROM mqtt_user WHERE username = ${username}", "SELECT password_hash FROM nowhere WHERE username = ${username}"} {
		o.Query = q
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(t.Context(), host{new(strings.Builder)}); err == nil || !strings.HasPrefix(err.Error(), Name+": query: ") {
			t.Errorf("%s: error %v", q, err)
			b.Stop(t.Context())
		}
	}
	// A server that does not answer.
	o = plain(o.Driver, o.DSN)
	o.Remote.Timeout = 200 * time.Millisecond
	b := started(t, o)
	want(t, b, login("ann", "wonder"), plugin.Allow)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lock, unlock := []string{"BEGIN", "LOCK TABLE mqtt_user IN ACCESS EXCLUSIVE MODE"}, "ROLLBACK"
	if o.Driver == "mysql" {
		lock, unlock = []string{"LOCK TABLES mqtt_user WRITE"}, "UNLOCK TABLES"
	}
	for _, q := range lock {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if d, _, err := b.Authenticate(t.Context(), login("ann", "wonder")); err == nil || d.Verdict == plugin.Allow || time.Since(began) > 5*time.Second {
		t.Errorf("locked: %v, %v after %v", d, err, time.Since(began))
	}
	if _, err := conn.ExecContext(t.Context(), unlock); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for i := 0; ; i++ {
		d, _, err := b.Authenticate(t.Context(), login("ann", "wonder"))
		if err == nil && d.Verdict == plugin.Allow {
			break
		}
		if i == 50 {
			t.Fatalf("unlocked: %v, %v", d, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// away ends the server under a plug-in that had asked it.
func away(t *testing.T, s *servers.Server, o Options) {
	o.Remote.MaxFailures = 3
	a := started(t, o)
	want(t, a, login("ann", "wonder"), plugin.Allow)
	s.Stop()
	var last error
	for range 5 {
		var d plugin.Decision
		if d, _, last = a.Authenticate(t.Context(), login("ann", "wonder")); last == nil || d.Verdict == plugin.Allow {
			t.Errorf("%v, %v", d, last)
		}
	}
	if !strings.Contains(fmt.Sprint(last), "not asked") {
		t.Errorf("the last error is %v", last)
	}
}
