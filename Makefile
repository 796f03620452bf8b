# An index of one-line commands.
.PHONY: check test race sim fuzz conformance bench lint run

check: ; .ci/run
test: ; go test ./...
race: ; go test -race -short ./...
sim: ; go test -count=1 ./internal/sim -seeds 120
conformance: ; go test -count=1 ./conformance ./interop
lint: ; go vet ./... && go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
bench: ; cd bench && go run .
fuzz: ; go test -run '^$$' -fuzz FuzzDecode -fuzztime 60s ./mqtt
run: ; go run ./cmd/noctule
