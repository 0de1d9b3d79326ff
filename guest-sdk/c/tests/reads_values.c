/* Compiles unless values are declared unread. */
#include <floodmark.h>

size_t read_it(const fm_record *record);
size_t read_it(const fm_record *record) { return record->value.len; }
