module example.com/{{name}}

go 1.24

require floodmark.dev/sdk v0.0.0

replace floodmark.dev/sdk => ./floodmark-sdk
