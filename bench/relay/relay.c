// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// relay is the floor of the benchmarks: what moving bytes from one socket to another costs on this machine, and nothing else.
// It answers CONNECT and SUBSCRIBE, and from then on hands each read of client pubN to subN, and back, without looking at it: so packet
// identifiers and acknowledgements go from end to end, and a message of QoS 1 takes one exchange where a broker has two.
// It is no broker: MQTT 3.1.1 of the load generator only, one topic for each pair, no second topic, no WebSocket.
//
//     relay PORT

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS = 4096, CHUNK = 256 << 10, EVENTS = 1024 };

struct conn {
	int fd, number, pub;    // number is -1 until CONNECT has come
	int granted;            // its SUBSCRIBE was answered
	int dead;               // closed, freed at the end of the iteration
	uint32_t events;        // that epoll has
	char *rest;             // of a read that the other side had no room for: written before anything else
	size_t have, written;
	struct conn *next_dead;
};

static int ep;
static struct conn *ends[2][PAIRS]; // subscribers, publishers
static struct conn *dead;
static char chunk[CHUNK];

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static struct conn *other(struct conn *c) {
	return c->number < 0 ? NULL : ends[!c->pub][c->number];
}

static void want(struct conn *c, uint32_t events) {
	struct epoll_event ev = {.events = events, .data.ptr = c};
	if (c->dead || c->events == events)
		return;
	c->events = events;
	if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		fail("epoll_ctl");
}

static void end(struct conn *c) {
	if (c->dead)
		return;
	c->dead = 1;
	if (c->number >= 0 && ends[c->pub][c->number] == c) {
		struct conn *o = other(c);
		if (o && !o->dead)
			want(o, o->events | EPOLLIN); // it may have waited for us
		ends[c->pub][c->number] = NULL;
	}
	close(c->fd);
	c->next_dead = dead;
	dead = c;
}

// send_all writes b. What does not fit is kept, and from is not read until it is gone.
static void send_all(struct conn *c, struct conn *from, const char *b, size_t n) {
	while (n > 0) {
		ssize_t done = write(c->fd, b, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno != EAGAIN) {
			end(c);
			return;
		}
		if (done < 0)
			break;
		b += done;
		n -= done;
	}
	if (n == 0)
		return;
	if (!c->rest && !(c->rest = malloc(CHUNK)))
		fail("malloc");
	memcpy(c->rest, b, n);
	c->have = n;
	c->written = 0;
	want(c, c->events | EPOLLOUT);
	want(from, from->events & ~EPOLLIN);
}

// writable writes what was kept.
static void writable(struct conn *c) {
	ssize_t done = write(c->fd, c->rest + c->written, c->have - c->written);
	if (done < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (done < 0) {
		end(c);
		return;
	}
	c->written += done;
	if (c->written < c->have)
		return;
	want(c, c->events & ~EPOLLOUT);
	struct conn *o = other(c);
	if (o)
		want(o, o->events | EPOLLIN);
}

// length reads a remaining length, and gives where it ends.
static const unsigned char *length(const unsigned char *p, const unsigned char *last, size_t *n) {
	*n = 0;
	for (int shift = 0; p < last && shift < 28; shift += 7) {
		*n |= (size_t)(*p & 0x7f) << shift;
		if (!(*p++ & 0x80))
			return p;
	}
	return NULL;
}

// greet answers a CONNECT, and finds out who it is. Small packets on loopback come whole.
static void greet(struct conn *c, const unsigned char *b, size_t n) {
	size_t size;
	const unsigned char *body = length(b + 1, b + n, &size);
	char id[16] = "", answer[4] = {0x20, 2, 0, 0};
	if (b[0] == 0x10 && body && size >= 12 && body + size <= b + n) {
		size_t idSize = body[10] << 8 | body[11];
		if (idSize < sizeof id && 12 + idSize <= size)
			memcpy(id, body + 12, idSize);
	}
	c->pub = !strncmp(id, "pub", 3);
	char *tail;
	long number = strtol(id + (*id ? 3 : 0), &tail, 10);
	if (strncmp(id, c->pub ? "pub" : "sub", 3) || *tail || tail == id + 3 || number < 0 || number >= PAIRS || ends[c->pub][number]) {
		fprintf(stderr, "relay: there are pub0 and sub0 to pub%d and sub%d, each once, not \"%s\"\n", PAIRS - 1, PAIRS - 1, id);
		end(c);
		return;
	}
	c->number = number;
	ends[c->pub][number] = c;
	send_all(c, c, answer, sizeof answer);
}

// grant answers a SUBSCRIBE with a single filter.
static void grant(struct conn *c, const unsigned char *b, size_t n) {
	size_t size;
	const unsigned char *body = length(b + 1, b + n, &size);
	if (!body || size < 6 || body + size != b + n || (size_t)(body[2] << 8 | body[3]) + 5 != size) {
		fprintf(stderr, "relay: more than one filter, or a part of a SUBSCRIBE\n");
		end(c);
		return;
	}
	char answer[5] = {(char)0x90, 3, (char)body[0], (char)body[1], (char)body[size - 1]};
	send_all(c, c, answer, sizeof answer);
}

static void readable(struct conn *c) {
	ssize_t n = read(c->fd, chunk, CHUNK);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		end(c);
		return;
	}
	if (c->number < 0) {
		greet(c, (unsigned char *)chunk, n);
		return;
	}
	if (!c->pub && !c->granted && chunk[0] == (char)0x82) { // the generator publishes when all have subscribed
		c->granted = 1;
		grant(c, (unsigned char *)chunk, n);
		return;
	}
	struct conn *o = other(c);
	if (o)
		send_all(o, c, chunk, n);
}

static void take(int l) {
	int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
	if (fd < 0)
		return; // it has gone again
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		fail("calloc");
	c->fd = fd;
	c->number = -1;
	c->events = EPOLLIN;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		fail("epoll_ctl");
}

int main(int argc, char **argv) {
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event events[EVENTS], ev = {.events = EPOLLIN, .data.ptr = NULL};
	int on = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (argc != 2 || l < 0 || bind(l, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(l, 1024) < 0)
		fail("relay PORT");
	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev) < 0)
		fail("epoll");
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int n = epoll_wait(ep, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (!c) {
				take(l);
				continue;
			}
			if (!c->dead && events[i].events & EPOLLOUT)
				writable(c);
			if (!c->dead && events[i].events & (EPOLLERR | EPOLLHUP))
				end(c);
			if (!c->dead && events[i].events & EPOLLIN && c->events & EPOLLIN)
				readable(c);
		}
		while (dead) {
			struct conn *c = dead;
			dead = c->next_dead;
			free(c->rest);
			free(c);
		}
	}
}
