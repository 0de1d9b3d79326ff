/* Memory, text and errors of a call.
 *
 * What a call allocates is given back as a whole, so a record costs no `malloc`: an arena is a chain of blocks, and after a
 * call that needed several it becomes one that is as large as all of them. Buffers, which hold what is returned, keep their
 * memory too. Iterators have arenas of their own, one page each. Without memory the instance ends: the host drops it anyway.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"

#define BLOCK_BYTES_MIN ((size_t)64 << 10)
/* What a buffer or an arena keeps from call to call. */
#define KEPT_BYTES_MAX ((size_t)4 << 20)
#define PAGE_BYTES_MIN ((size_t)256)
#ifdef __wasm__
/* Up to here a page keeps what its iterators gave before: mercy for those who hold on to views of a small state. */
#define MERCY_BYTES ((size_t)64 << 10)
#endif

typedef struct fmi_block {
  struct fmi_block *before;
  size_t cap;
  /* What follows is aligned for anything. */
  size_t padding[2];
} block;

fmi_arena fmi_call_arena, fmi_record_arena;
fmi_arena *fmi_answers = &fmi_call_arena;
fm_bytes fmi_error;

_Noreturn void fmi_die(const char *why) {
  fmi_host_log(FM_ERROR, fm_text(why));
  abort();
}

static void *must(void *memory) {
  if (memory == NULL) fmi_die("there is no more memory; raise `limits.memory` or send smaller batches");
  return memory;
}

static void add_block(fmi_arena *arena, size_t bytes) {
  size_t first_cap = arena->first_cap == 0 ? BLOCK_BYTES_MIN : arena->first_cap;
  size_t cap = arena->block == NULL ? first_cap : arena->block->cap * 2;
  if (cap > KEPT_BYTES_MAX) cap = KEPT_BYTES_MAX;
  if (cap < bytes) cap = bytes;
  if (cap > SIZE_MAX - sizeof(block)) must(NULL);
  block *added = must(malloc(sizeof(block) + cap));
  added->before = arena->block;
  added->cap = cap;
  arena->block = added;
  arena->used = 0;
}

void *fmi_allocate(fmi_arena *arena, size_t bytes, size_t align) {
  size_t start = (arena->used + align - 1) & ~(align - 1);
  if (arena->block == NULL || start > arena->block->cap || bytes > arena->block->cap - start) {
    if (bytes > SIZE_MAX - align) must(NULL);
    add_block(arena, bytes);
    start = 0;
  }
  arena->used = start + bytes;
  return (uint8_t *)(arena->block + 1) + start;
}

void *fmi_allocate_zeroed(fmi_arena *arena, size_t count, size_t bytes) {
  if (count > SIZE_MAX / 2 / bytes) must(NULL);
  void *memory = fmi_allocate(arena, count * bytes, 8);
  return memset(memory, 0, count * bytes);
}

/* Returns how much it was. */
static size_t free_blocks(fmi_arena *arena) {
  size_t all = 0;
  while (arena->block != NULL) {
    block *before = arena->block->before;
    all += arena->block->cap;
    free(arena->block);
    arena->block = before;
  }
  arena->used = 0;
  return all;
}

void fmi_reset(fmi_arena *arena) {
  arena->used = 0;
  if (arena->block == NULL || arena->block->before == NULL) return;
  size_t all = free_blocks(arena);
  add_block(arena, all < KEPT_BYTES_MAX ? all : KEPT_BYTES_MAX);
}

fm_bytes fmi_copy(fmi_arena *arena, fm_bytes bytes) {
  uint8_t *copy = fmi_allocate(arena, bytes.len, 1);
  fmi_put(copy, bytes.ptr, bytes.len);
  return fm_view(copy, bytes.len);
}

/* ---- Pages ---- */

fmi_page *fmi_pages;
/* Those of this record whose iterators are at their end. */
static fmi_page *idle_pages;
static uint64_t turns;

fmi_page *fmi_take_page(void) {
  fmi_page *page = idle_pages;
  if (page != NULL) {
    idle_pages = page->next_idle;
    return page;
  }
  page = must(calloc(1, sizeof *page));
  page->arena.first_cap = PAGE_BYTES_MIN;
  page->older = fmi_pages;
  return fmi_pages = page;
}

/* Natively it is freed, so that a sanitizer finds who holds on to a view for too long. */
static void let_go(fmi_page *page) {
  page->number = ++turns;
#ifdef __wasm__
  fmi_reset(&page->arena);
#else
  free_blocks(&page->arena);
#endif
}

void fmi_turn_page(fmi_page *page) {
#ifdef __wasm__
  size_t held = page->arena.used;
  for (const block *at = page->arena.block; at != NULL && at->before != NULL; at = at->before) held += at->before->cap;
  if (held <= MERCY_BYTES) {
    page->number = ++turns;
    return;
  }
#endif
  let_go(page);
}

void fmi_return_page(fmi_page *page) {
  fmi_turn_page(page);
  page->next_idle = idle_pages;
  idle_pages = page;
}

void fmi_forget_pages(void) {
  while (fmi_pages->older != NULL) {
    fmi_page *older = fmi_pages->older;
    free_blocks(&fmi_pages->arena);
    free(fmi_pages->bound.ptr);
    free(fmi_pages);
    fmi_pages = older;
  }
  /* Most records that iterate do it once. */
  let_go(fmi_pages);
  fmi_pages->next_idle = NULL;
  idle_pages = fmi_pages;
}

/* ---- Buffers ---- */

void fmi_grow(fmi_buffer *buffer, size_t more) {
  if (more > SIZE_MAX / 2 - buffer->len) must(NULL);
  size_t cap = buffer->cap < 256 ? 256 : buffer->cap * 2;
  if (cap < buffer->len + more) cap = buffer->len + more;
  buffer->ptr = must(realloc(buffer->ptr, cap));
  buffer->cap = cap;
}

void fmi_append(fmi_buffer *buffer, fm_bytes bytes) {
  void *at = fmi_more(buffer, bytes.len);
  fmi_put(at, bytes.ptr, bytes.len);
}

void fmi_empty(fmi_buffer *buffer) {
  buffer->len = 0;
  if (buffer->cap > KEPT_BYTES_MAX) {
    free(buffer->ptr);
    buffer->ptr = NULL;
    buffer->cap = 0;
  }
}

void fmi_end_item(fmi_columns *column) {
  if (column->bytes.len > UINT32_MAX) fmi_die("a column has more than 4 GiB; send smaller batches");
  fmi_append_u32(&column->ends, (uint32_t)column->bytes.len);
}

void fmi_push(fmi_columns *column, fm_bytes item) {
  fmi_append(&column->bytes, item);
  fmi_end_item(column);
}

void fmi_clear(fmi_columns *column) {
  fmi_empty(&column->ends);
  fmi_empty(&column->bytes);
}

fmi_column fmi_column_of(const fmi_columns *column) {
  fmi_column columns = {fmi_u32s_of(&column->ends), fmi_bytes_of(&column->bytes)};
  return columns;
}

/* ---- Text ---- */

fm_bytes fm_text(const char *text) { return fm_view(text, strlen(text)); }

fm_bytes fm_view(const void *bytes, size_t len) {
  fm_bytes view = {(const uint8_t *)bytes, len};
  return view;
}

/* The bytes are followed by a zero byte. */
static fm_bytes formatted(fmi_arena *arena, const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  char first[256];
  int len = vsnprintf(first, sizeof first, format, arguments);
  if (len < 0) len = 0, first[0] = 0;
  char *text = fmi_allocate(arena, (size_t)len + 1, 1);
  if ((size_t)len < sizeof first) {
    memcpy(text, first, (size_t)len + 1);
  } else {
    vsnprintf(text, (size_t)len + 1, format, again);
  }
  va_end(again);
  return fm_view(text, (size_t)len);
}

fm_bytes fm_format(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fm_bytes text = formatted(&fmi_record_arena, format, arguments);
  va_end(arguments);
  return text;
}

fm_bytes fm_decimal(uint64_t number) {
  enum { DIGITS_MAX = 20 };
  uint8_t *digits = fmi_allocate(&fmi_record_arena, DIGITS_MAX, 1);
  size_t at = DIGITS_MAX;
  for (; number > UINT32_MAX; number /= 10) digits[--at] = (uint8_t)('0' + number % 10);
  uint32_t rest = (uint32_t)number;
  do digits[--at] = (uint8_t)('0' + rest % 10);
  while ((rest /= 10) != 0);
  return fm_view(digits + at, DIGITS_MAX - at);
}

fm_bytes fm_join(fm_bytes first, fm_bytes second) {
  if (second.len > SIZE_MAX - first.len) must(NULL);
  uint8_t *joined = fmi_allocate(&fmi_record_arena, first.len + second.len, 1);
  if (first.len != 0) memcpy(joined, first.ptr, first.len);
  if (second.len != 0) memcpy(joined + first.len, second.ptr, second.len);
  return fm_view(joined, first.len + second.len);
}

fm_bytes fm_copy(fm_bytes bytes) { return fmi_copy(&fmi_record_arena, bytes); }

void *fm_scratch(size_t bytes) { return fmi_allocate(&fmi_record_arena, bytes, 16); }

int fm_compare(fm_bytes one, fm_bytes other) {
  size_t common = one.len < other.len ? one.len : other.len;
  int order = common == 0 ? 0 : memcmp(one.ptr, other.ptr, common);
  return order != 0 ? order : (one.len > other.len) - (one.len < other.len);
}

bool fm_equal(fm_bytes one, fm_bytes other) {
  return one.len == other.len && (one.len == 0 || memcmp(one.ptr, other.ptr, one.len) == 0);
}

/* How many bytes the character at the front has; 0 if there is none in UTF-8. */
static size_t character(fm_bytes bytes) {
  const uint8_t *at = bytes.ptr;
  if (at[0] < 0x80) return 1;
  size_t len = at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
  if (len == 0 || bytes.len < len) return 0;
  for (size_t index = 1; index < len; index++) {
    if ((at[index] & 0xc0) != 0x80) return 0;
  }
  bool is_overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
  bool is_outside = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
  return is_overlong || is_outside ? 0 : len;
}

bool fm_is_utf8(fm_bytes bytes) {
  while (bytes.len != 0) {
    size_t len = character(bytes);
    if (len == 0) return false;
    bytes = fm_view(bytes.ptr + len, bytes.len - len);
  }
  return true;
}

fm_bytes fmi_message(fmi_arena *arena, const char *format, va_list arguments) {
  fm_bytes message = formatted(arena, format, arguments);
  for (fm_bytes rest = message; rest.len != 0;) {
    size_t len = character(rest);
    /* The memory is the arena's, so it may be written. */
    if (len == 0) ((uint8_t *)message.ptr)[rest.ptr - message.ptr] = '?', len = 1;
    rest = fm_view(rest.ptr + len, rest.len - len);
  }
  return message;
}

const char *fm_readable(fm_bytes bytes) {
  enum { SHOWN = 80 };
  char *text = fmi_allocate(&fmi_record_arena, SHOWN * 4 + 64, 1);
  char *at = text;
  size_t all = bytes.len;
  fm_bytes cut = fm_view(bytes.ptr, all < SHOWN ? all : SHOWN);
  while (cut.len != 0) {
    size_t len = character(cut);
    if (len == 0 || cut.ptr[0] == 0x7f || (len == 1 && cut.ptr[0] < 0x20)) {
      len = 1;
      at += cut.ptr[0] == '\n' ? sprintf(at, "\\n") : sprintf(at, "\\x%02x", cut.ptr[0]);
    } else {
      memcpy(at, cut.ptr, len);
      at += len;
    }
    cut = fm_view(cut.ptr + len, cut.len - len);
  }
  if (all > SHOWN) at += sprintf(at, "… (%zu bytes)", all);
  *at = 0;
  return text;
}

bool fm_parse_u64(fm_bytes text, uint64_t *number) {
  uint64_t read = 0;
  for (size_t index = 0; index < text.len; index++) {
    uint8_t digit = (uint8_t)(text.ptr[index] - '0');
    if (digit > 9 || read > (UINT64_MAX - digit) / 10) return false;
    read = read * 10 + digit;
  }
  if (text.len != 0) *number = read;
  return text.len != 0;
}

bool fm_parse_i64(fm_bytes text, int64_t *number) {
  bool is_negative = text.len != 0 && text.ptr[0] == '-';
  uint64_t read;
  if (!fm_parse_u64(fm_view(text.ptr + is_negative, text.len - is_negative), &read)) return false;
  if (read > (uint64_t)INT64_MAX + is_negative) return false;
  *number = (int64_t)(is_negative ? 0 - read : read);
  return true;
}

/* ---- Errors and log ---- */

bool fm_has_failed(void) { return fmi_error.ptr != NULL; }

void fm_fail(const char *why, ...) {
  if (fm_has_failed()) return;
  va_list arguments;
  va_start(arguments, why);
  fmi_error = fmi_message(&fmi_call_arena, why, arguments);
  va_end(arguments);
}

void fmi_within(const char *format, ...) {
  if (!fm_has_failed()) return;
  va_list arguments;
  va_start(arguments, format);
  fm_bytes context = fmi_message(&fmi_record_arena, format, arguments);
  va_end(arguments);
  fmi_error = fmi_copy(&fmi_call_arena, fm_join(fm_join(context, fm_text(": ")), fmi_error));
}

void fm_log(fm_level level, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fmi_host_log(level, fmi_message(&fmi_record_arena, format, arguments));
  va_end(arguments);
}
