// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package redisserver is what plug-ins share that ask Redis or Valkey: how to connect, bounds for what is read, and values in keys.
//
// A Server may be used from any goroutine. The client, with its goroutines, lives from the first time that it could be connected to Close.
package redisserver

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/redis/rueidis"

	"github.com/noctule/noctule/plugins/internal/remote"
)

// Connection says which server, part of the options of a plug-in.
type Connection struct {
	// Addresses are host:port. Several are those of sentinels, with Sentinel, or of a cluster, with Cluster.
	Addresses []string `yaml:"addresses"`
	// Sentinel is the name of the set of servers that the addresses, sentinels, watch over.
	Sentinel string `yaml:"sentinel"`
	// Cluster says that the addresses are nodes of a cluster. Default false.
	Cluster bool `yaml:"cluster"`
	// User and Password are for the server.
	User     string `yaml:"user"`
	Password string `yaml:"password"`
	// Database is its number. Default 0.
	Database int `yaml:"database"`
	// TLS encrypts. Default false.
	TLS bool `yaml:"tls"`
	// AllowColons takes values with a colon into the key; otherwise such a client is refused, as its key might be another's. Default false.
	AllowColons bool `yaml:"allow_colons"`

	remote.TLSOptions `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Connection { return Connection{Addresses: []string{"127.0.0.1:6379"}} }

// Server is one server, set of servers or cluster.
type Server struct {
	conf rueidis.ClientOption

	mu     sync.Mutex     // guards client; held while it is connected
	client rueidis.Client // nil until it could be connected
}

// New checks how to connect, and connects nothing. timeout is for one answer.
func New(o *Connection, timeout time.Duration) (*Server, error) {
	switch {
	case len(o.Addresses) == 0:
		return nil, errors.New("addresses is empty; write host:port")
	case len(o.Addresses) > 1 && o.Sentinel == "" && !o.Cluster:
		return nil, errors.New("there are several addresses; write cluster: true, or sentinel: with the name of the set")
	case o.Sentinel != "" && o.Cluster:
		return nil, errors.New("cluster and sentinel exclude each other")
	case o.Database < 0 || o.Database > 1<<15 || o.Cluster && o.Database != 0:
		return nil, fmt.Errorf("database is %d; write its number, with a cluster 0", o.Database)
	}
	s := &Server{conf: rueidis.ClientOption{
		InitAddress: o.Addresses, Username: o.User, Password: o.Password, SelectDB: o.Database, ClientName: "noctule", DialCtxFn: dial,
		ForceSingleClient: !o.Cluster && o.Sentinel == "", DisableCache: true, DisableRetry: true,
		ConnWriteTimeout: timeout, Dialer: net.Dialer{Timeout: timeout, KeepAlive: 10 * time.Second},
		Sentinel: rueidis.SentinelOption{MasterSet: o.Sentinel},
	}}
	for _, address := range o.Addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("addresses: %q is not host:port", address)
		}
		if err := o.MayBePlain(host); err != nil && !o.TLS {
			return nil, fmt.Errorf("addresses: %w", err)
		}
	}
	if o.TLS {
		var err error
		if s.conf.TLSConfig, err = o.Config(""); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Client is the client, connected now if it is not yet. One at a time tries, bounded by the time for one answer.
func (s *Server) Client() (rueidis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		c, err := rueidis.NewClient(s.conf)
		if err != nil {
			return nil, err
		}
		s.client = c
	}
	return s.client, nil
}

// Close closes the connections.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// Escape refuses values that could make the key of another kind of thing: there is no escaping in keys.
func (o *Connection) Escape(s string) (string, error) {
	switch {
	case s == "", strings.ContainsFunc(s, unicode.IsControl), strings.ContainsAny(s, "{}"):
		return "", errors.New("a value cannot stand in a key")
	case !o.AllowColons && strings.Contains(s, ":"):
		return "", errors.New("a value has a colon, which parts keys; see allow_colons")
	}
	return s, nil
}
