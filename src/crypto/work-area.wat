;; The steps of sector ciphers that AES itself does not do, 16 bytes at a time. See work-area.ts.
(module
  (memory (export "memory") 3)
  ;; Where the parts of the memory begin: up to 128 sectors of 512 bytes, a mask for each of their blocks of 16 bytes,
  ;; and an IV or tweak for each sector.
  (global (export "data") i32 (i32.const 0))
  (global (export "masks") i32 (i32.const 65536))
  (global (export "ivs") i32 (i32.const 131072))

  ;; XTS (IEEE Std 1619-2018, 5.2): the mask of a sector's first block is its tweak, and each of the next 31 is the one
  ;; before times x in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, little endian.
  (func (export "makeMasks") (param $sectors i32)
    (local $mask v128) (local $at i32) (local $iv i32) (local $sectorEnd i32) (local $end i32)
    (local.set $at (i32.const 65536))
    (local.set $iv (i32.const 131072))
    (local.set $end (i32.add (local.get $at) (i32.shl (local.get $sectors) (i32.const 9))))
    (loop $sector
      (local.set $mask (v128.load (local.get $iv)))
      (local.set $sectorEnd (i32.add (local.get $at) (i32.const 512)))
      (loop $block
        (v128.store (local.get $at) (local.get $mask))
        ;; Both halves move up by a bit; what leaves the low half enters the high one, what leaves the high one is folded.
        (local.set $mask
          (v128.xor
            (i64x2.shl (local.get $mask) (i32.const 1))
            (v128.and
              (i64x2.shr_s
                (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $mask) (local.get $mask))
                (i32.const 63))
              (v128.const i64x2 0x87 1))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $block (i32.lt_u (local.get $at) (local.get $sectorEnd))))
      (local.set $iv (i32.add (local.get $iv) (i32.const 16)))
      (br_if $sector (i32.lt_u (local.get $at) (local.get $end)))))

  ;; XORs the data with the masks; a multiple of 64 bytes.
  (func (export "xor") (param $bytes i32)
    (local $at i32)
    (loop $next
      (v128.store offset=0 (local.get $at)
        (v128.xor (v128.load offset=0 (local.get $at)) (v128.load offset=65536 (local.get $at))))
      (v128.store offset=16 (local.get $at)
        (v128.xor (v128.load offset=16 (local.get $at)) (v128.load offset=65552 (local.get $at))))
      (v128.store offset=32 (local.get $at)
        (v128.xor (v128.load offset=32 (local.get $at)) (v128.load offset=65568 (local.get $at))))
      (v128.store offset=48 (local.get $at)
        (v128.xor (v128.load offset=48 (local.get $at)) (v128.load offset=65584 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $bytes)))))
)
