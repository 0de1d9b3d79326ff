module floodmark.dev/sdk

go 1.24
