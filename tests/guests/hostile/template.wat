;; A whole plugin in which nothing is wrong. Each other file replaces some of its parts, which stand here as {{part}}, by
;; lines after `;; -- part`. Its states are `v` (0, a value), `l` (1, a list) and `m` (2, a map).
;;
;; Memory: 16 names, 256 the description, 320 ports, 512 states, 1024 the answer of each call, 4096 room for cases,
;; 65536 to the end what the host hands over.
(component
  {{imports}}
  (import "floodmark:engine/log@0.1.0" (instance $log
    (type $levels (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $levels)))
    (export "line" (func (param "level" $level) (param "message" string)))))
  (import "floodmark:engine/state@0.1.0" (instance $state
    (type $a-column (record (field "ends" (list u32)) (field "bytes" (list u8))))
    (export "column" (type $column (eq $a-column)))
    (type $an-optional
      (record (field "present" (list u8)) (field "ends" (list u32)) (field "bytes" (list u8))))
    (export "optional-column" (type $optional (eq $an-optional)))
    (type $some-items (record (field "values" $column) (field "next" (option u64))))
    (export "items" (type $items (eq $some-items)))
    (export "map-get" (func
      (param "state" u16) (param "slots" (list u32)) (param "sub-keys" $column) (result $optional)))
    (export "list-read" (func
      (param "state" u16) (param "slot" u32) (param "start" u64) (param "max" u32) (result $items)))
    (export "list-len" (func (param "state" u16) (param "slots" (list u32)) (result (list u64))))))
  (import "floodmark:engine/metrics@0.1.0" (instance $metrics
    (export "add" (func (param "counter" string) (param "delta" u64)))
    (export "observe" (func (param "histogram" string) (param "values" (list float64))))))

  (core module $Memory
    (memory (export "memory") {{memory}})
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
      (local $at i32)
      {{realloc}}
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (if (i32.gt_u (i32.add (local.get $at) (local.get $len)) (i32.const 1114112))
        (then (local.set $at (i32.const 65536))))
      (global.set $next (i32.add (local.get $at) (local.get $len)))
      (local.get $at))
    (data (i32.const 16) "hostile1vlminout")
    (data (i32.const 256)
      "\10\00\00\00\07\00\00\00" "\17\00\00\00\01\00\00\00" "\00\02\00\00\03\00\00\00"
      "\40\01\00\00\01\00\00\00" "\48\01\00\00\01\00\00\00")
    (data (i32.const 320) "\1b\00\00\00\02\00\00\00" "\1d\00\00\00\03\00\00\00")
    (data (i32.const 512) "\18\00\00\00\01\00\00\00" "\00\00\00\00\01\00\00\00")
    (data (i32.const 544) "\19\00\00\00\01\00\00\00" "\01\00\00\00\01\00\00\00")
    (data (i32.const 576) "\1a\00\00\00\01\00\00\00" "\02\00\00\00\01\00\00\00"))
  (core instance $memory (instantiate $Memory))
  (core func $line
    (canon lower (func $log "line") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $map-get
    (canon lower (func $state "map-get") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $list-read
    (canon lower (func $state "list-read") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $list-len
    (canon lower (func $state "list-len") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $add
    (canon lower (func $metrics "add") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $observe
    (canon lower (func $metrics "observe") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))

  (core module $Guest
    (import "host" "memory" (memory 0))
    (import "host" "line" (func $line (param i32 i32 i32)))
    (import "host" "map-get" (func $map-get (param i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "list-read" (func $list-read (param i32 i32 i64 i32 i32)))
    (import "host" "list-len" (func $list-len (param i32 i32 i32 i32)))
    (import "host" "add" (func $add (param i32 i32 i64)))
    (import "host" "observe" (func $observe (param i32 i32 i32 i32)))
    {{module}}
    (func $poke (param $at i32) (param $value i32) (i32.store (local.get $at) (local.get $value)))
    (func (export "describe") (result i32)
      {{describe}}
      (i32.const 256))
    (func (export "open") (param $config i32) (param i32) (result i32)
      {{open}}
      (i32.const 1024))
    (func (export "process") (param $input i32)
      (param $key-ends i32) (param i32 i32 i32) (param $slots i32) (param i32)
      (param $value-ends i32) (param i32 i32 i32) (param $timestamps i32) (param i32)
      (param $states i32) (param i32) (result i32)
      {{process}}
      (i32.const 1024))
    (func (export "migrate") (param i32 i32 i32 i32 i32 i32) (result i32)
      {{migrate}}
      (i32.const 1024))
    (func (export "to-json") (param i32 i32 i32 i32 i32 i32) (result i32)
      {{to-json}}
      (i32.const 1024))
    (func (export "from-json") (param i32 i32 i32 i32 i32 i32) (result i32)
      {{from-json}}
      (i32.const 1024))
    (func (export "completed") (param i64)
      {{completed}}
      )
    (func (export "aborted") (param i64)
      {{aborted}}
      ))
  (core instance $guest (instantiate $Guest (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "line" (func $line))
    (export "map-get" (func $map-get))
    (export "list-read" (func $list-read))
    (export "list-len" (func $list-len))
    (export "add" (func $add))
    (export "observe" (func $observe))))))
  {{component}}

  (type $a-column (record (field "ends" (list u32)) (field "bytes" (list u8))))
  (export $column "column" (type $a-column))
  (type $an-optional
    (record (field "present" (list u8)) (field "ends" (list u32)) (field "bytes" (list u8))))
  (export $optional "optional-column" (type $an-optional))
  (type $a-batch (record
    (field "keys" $column) (field "slots" (list u32)) (field "values" $column) (field "timestamps" (list s64))))
  (export $batch "batch" (type $a-batch))
  (type $kinds (enum "value" "list" "map"))
  (export $kind "state-kind" (type $kinds))
  (type $a-declaration (record
    (field "name" string) (field "kind" $kind) (field "version" u32) (field "ttl-ms" (option u64))))
  (export $declaration "state-declaration" (type $a-declaration))
  (type $a-description (record
    (field "name" string) (field "version" string) (field "states" (list $declaration))
    (field "inputs" (list string)) (field "outputs" (list string))))
  (export $description "description" (type $a-description))
  (type $some-keys (variant (case "input") (case "fresh" $column)))
  (export $emitted-keys "emitted-keys" (type $some-keys))
  (type $an-emission (record
    (field "output" u16) (field "keys" $emitted-keys) (field "slots" (list u32))
    (field "values" $column) (field "timestamps" (list s64))))
  (export $emission "emission" (type $an-emission))
  (type $some-values (record (field "state" u16) (field "slots" (list u32)) (field "values" $optional)))
  (export $value-writes "value-writes" (type $some-values))
  (type $some-lists (record
    (field "state" u16) (field "cleared" (list u32)) (field "slots" (list u32)) (field "values" $column)))
  (export $list-writes "list-writes" (type $some-lists))
  (type $some-maps (record
    (field "state" u16) (field "cleared" (list u32)) (field "slots" (list u32)) (field "sub-keys" $column)
    (field "values" $optional)))
  (export $map-writes "map-writes" (type $some-maps))
  (type $a-rejection (record (field "record" u32) (field "reason" string)))
  (export $rejection "rejection" (type $a-rejection))
  (type $an-output (record
    (field "emissions" (list $emission)) (field "values" (list $value-writes)) (field "lists" (list $list-writes))
    (field "maps" (list $map-writes)) (field "rejections" (list $rejection))))
  (export $output "output" (type $an-output))
  (type $parts (enum "value" "sub-key"))
  (export $part "part" (type $parts))

  (func $describe (result $description)
    (canon lift (core func $guest "describe") (memory (core memory $memory "memory"))))
  (func $open (param "config" (list (tuple string string))) (result (result (error string)))
    (canon lift (core func $guest "open") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func $process (param "input" u16) (param "records" $batch) (param "states" (list $optional))
    (result (result $output (error string)))
    (canon lift (core func $guest "process") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func $migrate (param "state" u16) (param "from-version" u32) (param "values" $column)
    (result (result $column (error string)))
    (canon lift (core func $guest "migrate") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func $to-json (param "state" u16) (param "part" $part) (param "values" $column)
    (result (result $column (error string)))
    (canon lift (core func $guest "to-json") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func $from-json (param "state" u16) (param "part" $part) (param "texts" $column)
    (result (result $column (error string)))
    (canon lift (core func $guest "from-json") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func $completed (param "checkpoint" u64) (canon lift (core func $guest "completed")))
  (func $aborted (param "checkpoint" u64) (canon lift (core func $guest "aborted")))

  (instance $operator
    (export "describe" (func $describe)) (export "open" (func $open)) (export "process" (func $process)))
  (export "floodmark:engine/operator@0.1.0" (instance $operator))
  (instance $state-values
    (export "migrate" (func $migrate)) (export "to-json" (func $to-json)) (export "from-json" (func $from-json)))
  (export "floodmark:engine/state-values@0.1.0" (instance $state-values))
  (instance $listener (export "completed" (func $completed)) (export "aborted" (func $aborted)))
  (export "floodmark:engine/checkpoint-listener@0.1.0" (instance $listener)))
