// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package database is what plug-ins share that ask PostgreSQL, MySQL or MariaDB: how to connect, and what differs between them. It opens
// nothing by itself.
package database

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/noctule/noctule/plugins/internal/remote"
)

// Engine is what differs between databases.
type Engine struct {
	Connector driver.Connector
	Place     func(i int) string // how the argument i, from 0, stands in a query
	IsMistake func(error) bool   // the query is wrong
	IsValue   func(error) bool   // a value does not fit the query
}

// Options say which database, part of what a plug-in hands over.
type Options struct {
	Driver string
	DSN    string
	remote.TLSOptions
}

// New checks how to connect. The driver is "postgres" or "mysql", which is for MariaDB too.
func New(o *Options) (Engine, error) {
	switch o.Driver {
	case "postgres":
		return postgres(o)
	case "mysql", "mariadb":
		return mySQL(o)
	}
	return Engine{}, fmt.Errorf("driver is %q; write postgres or mysql", o.Driver)
}

func postgres(o *Options) (Engine, error) {
	c, err := pgx.ParseConfig(o.DSN)
	if err != nil {
		return Engine{}, fmt.Errorf("dsn: %w", err) // it hides the password
	}
	if c.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return Engine{}, errors.New("dsn: default_query_exec_mode simple_protocol puts values into the query's text; remove it")
	}
	if o.CAFile != "" || o.CertFile != "" {
		return Engine{}, errors.New("ca_file and cert_file: PostgreSQL has them in the dsn: sslrootcert, sslcert and sslkey")
	}
	plain := c.TLSConfig == nil
	for _, f := range c.Fallbacks {
		plain = plain || f.TLSConfig == nil
	}
	if plain {
		if err := o.MayBePlain(c.Host); err != nil {
			return Engine{}, fmt.Errorf("dsn: %w (sslmode=verify-full)", err)
		}
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	return Engine{
		Connector: stdlib.GetConnector(*c),
		Place:     func(i int) string { return fmt.Sprintf("$%d", i+1) },
		IsMistake: func(err error) bool {
			e, ok := errors.AsType[*pgconn.PgError](err)
			return ok && (strings.HasPrefix(e.Code, "42") && e.Code != "42501") // syntax and names, not rights
		},
		IsValue: func(err error) bool {
			e, ok := errors.AsType[*pgconn.PgError](err)
			return ok && strings.HasPrefix(e.Code, "22") // data exceptions
		},
	}, nil
}

// Errors of MySQL that a value causes, and those that a wrong query causes.
var (
	valueErrors   = []uint16{1267, 1292, 1300, 1366, 1411, 3141, 3854, 3988}
	mistakeErrors = []uint16{1046, 1054, 1064, 1146, 1305}
)

func mySQL(o *Options) (Engine, error) {
	c, err := mysql.ParseDSN(o.DSN)
	if err != nil {
		return Engine{}, errors.New("dsn is not understood; write user:password@tcp(host:3306)/database?tls=true") // err might show the password
	}
	if c.MultiStatements || c.InterpolateParams {
		return Engine{}, errors.New("dsn: multiStatements and interpolateParams make injections possible; remove them")
	}
	if o.CAFile != "" || o.CertFile != "" {
		host, _, _ := net.SplitHostPort(c.Addr)
		if c.TLS, err = o.Config(host); err != nil {
			return Engine{}, err
		}
	}
	if c.TLS == nil && c.Net != "unix" || c.AllowFallbackToPlaintext {
		host, _, _ := net.SplitHostPort(c.Addr)
		if err := o.MayBePlain(host); err != nil {
			return Engine{}, fmt.Errorf("dsn: %w (tls=true)", err)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	c.Logger = &mysql.NopLogger{} // errors are ours to tell
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return Engine{}, fmt.Errorf("dsn: %w", err)
	}
	is := func(numbers []uint16) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*mysql.MySQLError](err)
			return ok && slices.Contains(numbers, e.Number)
		}
	}
	return Engine{Connector: connector, Place: func(int) string { return "?" }, IsMistake: is(mistakeErrors), IsValue: is(valueErrors)}, nil
}

// PlaceholdersStandFree refuses a name within quotes: it would be text there, not an argument.
func PlaceholdersStandFree(t *remote.Template) error {
	const mark = "\x00"
	text, _ := t.Split(func(int) string { return mark })
	var quote rune
	for _, r := range text {
		switch {
		case quote == 0 && strings.ContainsRune("'\"`", r):
			quote = r
		case r == quote:
			quote = 0
		case string(r) == mark && quote != 0:
			return errors.New("query: a ${name} stands in quotes; write it without them, it is an argument")
		}
	}
	return nil
}
