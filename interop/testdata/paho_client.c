/* Copyright 2026 The Noctule Authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Publishes to itself with paho's synchronous C client, in 3.1, 3.1.1 and 5.0, over TCP and WebSocket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "MQTTClient.h"

static void check(int ok, const char *what) {
	if (!ok) {
		printf("failed: %s\n", what);
		exit(1);
	}
}

static void publish(MQTTClient c, int version, int qos) {
	char payload[8];
	MQTTClient_deliveryToken token;
	sprintf(payload, "m%d", qos);
	if (version == 5) {
		MQTTResponse r = MQTTClient_publish5(c, "c/x", 2, payload, qos, 0, NULL, &token);
		check(r.reasonCode == 0, "publish");
		MQTTResponse_free(r);
	} else {
		check(MQTTClient_publish(c, "c/x", 2, payload, qos, 0, &token) == 0, "publish");
	}
	if (qos > 0)
		check(MQTTClient_waitForCompletion(c, token, 5000) == 0, "acknowledgement");
}

static void receive(MQTTClient c, int qos) {
	char *topic, payload[8];
	int length;
	MQTTClient_message *m = NULL;
	MQTTClient_receive(c, &topic, &length, &m, 5000);
	check(m != NULL, "a message");
	sprintf(payload, "m%d", qos);
	check(m->qos == qos && m->payloadlen == 2 && memcmp(m->payload, payload, 2) == 0, "the right message");
	MQTTClient_freeMessage(&m);
	MQTTClient_free(topic);
}

static void go(const char *uri, int version) {
	MQTTClient c;
	MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
	create.MQTTVersion = version;
	check(MQTTClient_createWithOptions(&c, uri, "c", MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) == 0, "create");
	if (version == 5) {
		MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer5;
		MQTTResponse r = MQTTClient_connect5(c, &o, NULL, NULL);
		check(r.reasonCode == 0, "connect");
		MQTTResponse_free(r);
		r = MQTTClient_subscribe5(c, "c/#", 2, NULL, NULL);
		check(r.reasonCode == 2, "subscribe");
		MQTTResponse_free(r);
	} else {
		MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer;
		o.MQTTVersion = version;
		check(MQTTClient_connect(c, &o) == 0, "connect");
		check(MQTTClient_subscribe(c, "c/#", 2) == 0, "subscribe");
	}
	for (int qos = 0; qos < 3; qos++)
		publish(c, version, qos);
	for (int qos = 0; qos < 3; qos++)
		receive(c, qos);
	if (version == 5)
		MQTTClient_disconnect5(c, 1000, 0, NULL);
	else
		MQTTClient_disconnect(c, 1000);
	MQTTClient_destroy(&c);
}

int main(int argc, char **argv) {
	const char *schemes[] = {"tcp", "ws"};
	check(argc == 2, "arguments");
	for (int s = 0; s < 2; s++) {
		char uri[64];
		snprintf(uri, sizeof uri, "%s://127.0.0.1:%s", schemes[s], argv[1]);
		for (int version = 3; version <= 5; version++)
			go(uri, version);
	}
	puts("all well");
	return 0;
}
