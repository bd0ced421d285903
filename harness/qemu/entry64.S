/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hands the target CPU over in 64-bit mode, as firmware would: INIT-SIPI-SIPI starts it here, it leaves
 * with the registers that Python has put into HAND_OVER. A part of firmware.S, in ROM: no RAM below 1 MiB is
 * used or touched.
 *
 * 32-bit code can load CR3 from below 4 GiB only, and CR4.LA57 cannot change under paging. So the CPU gets
 * to 64-bit mode on tables of this image, of 4 or 5 levels, and goes on to the job's there.
 */
        .org    HAND_OVER_CODE - ROM_BELOW_1_MIB, 0xF4
        .code16
hand_over:
        lgdtl   %cs:(pointer_for_32_bits - hand_over)
        mov     $CR0_PE_ET, %eax
        mov     %eax, %cr0
        ljmpl   $CODE32, $AT(hand_over32)
pointer_for_32_bits:
        .word   gdt_pointer - gdt - 1
        .long   AT(gdt)

        .code32
hand_over32:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     $HAND_OVER, %ebx
        mov     $AT(pml4), %eax
        mov     REGISTER_CR4(%ebx), %ecx
        and     $(CR4_PAE | CR4_LA57), %ecx
        test    $CR4_LA57, %ecx
        jz      1f
        mov     $AT(pml5), %eax
1:      mov     %eax, %cr3
        mov     %ecx, %cr4
        mov     $MSR_EFER, %ecx
        xor     %edx, %edx
        mov     $EFER_LME, %eax
        wrmsr
        mov     $(CR0_PG | CR0_PE_ET), %eax
        mov     %eax, %cr0
        ljmp    $CODE64, $AT(hand_over64)

        .code64
hand_over64:
        lgdt    boot_gdt_pointer(%rip)
        lidt    no_idt_pointer(%rip)
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     REGISTER_CR3(%rbx), %rax
        mov     %rax, %cr3
        mov     REGISTER_CR4(%rbx), %rax
        mov     %rax, %cr4
        mov     $MSR_EFER, %ecx
        mov     REGISTER_EFER(%rbx), %eax
        xor     %edx, %edx
        wrmsr
        mov     REGISTER_CR0(%rbx), %rax
        mov     %rax, %cr0

        mov     $(CONTROL + CONTROL_STACK_TOP), %esp
        pushq   REGISTER_RFLAGS(%rbx)
        popfq                           /* no flag changes from here on */
        mov     REGISTER_RAX(%rbx), %rax
        mov     REGISTER_RCX(%rbx), %rcx
        mov     REGISTER_RDX(%rbx), %rdx
        mov     REGISTER_RSI(%rbx), %rsi
        mov     REGISTER_RDI(%rbx), %rdi
        mov     REGISTER_RBP(%rbx), %rbp
        mov     REGISTER_RSP(%rbx), %rsp
        mov     REGISTER_R8(%rbx), %r8
        mov     REGISTER_R9(%rbx), %r9
        mov     REGISTER_R10(%rbx), %r10
        mov     REGISTER_R11(%rbx), %r11
        mov     REGISTER_R12(%rbx), %r12
        mov     REGISTER_R13(%rbx), %r13
        mov     REGISTER_R14(%rbx), %r14
        mov     REGISTER_R15(%rbx), %r15
        mov     REGISTER_RBX(%rbx), %rbx
        addr32 jmp *HAND_OVER + REGISTER_RIP    /* the prefix: not sign-extended */

/* The GDT of Linux's 64-bit boot protocol. Accessed is set: the CPU need not write to the ROM. */
        .balign 8
boot_gdt:
        .quad   0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
boot_gdt_pointer:
        .word   boot_gdt_pointer - boot_gdt - 1
        .quad   AT(boot_gdt)
no_idt_pointer:
        .word   0
        .quad   0
