module floodmark.dev/guests/dedupe

go 1.24

require floodmark.dev/sdk v0.0.0

replace floodmark.dev/sdk => ../../../../guest-sdk/go
